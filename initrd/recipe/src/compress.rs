//! Packs an initramfs in the form that a kernel unpacks fastest.
//!
//! Invariant: the same bytes in give the same bytes out. The LZ4 legacy frame is what kernels read; its decoder is a
//! copy loop, which matters most where the processor is emulated.

/// The kernel's decoder takes blocks of this size.
const BLOCK: usize = 8 << 20;
const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// `content` as one LZ4 legacy frame.
pub(crate) fn lz4_legacy(content: &[u8]) -> Vec<u8> {
    let mut frame = MAGIC.to_vec();
    for chunk in content.chunks(BLOCK) {
        let block = lz4_flex::block::compress(chunk);
        let length = u32::try_from(block.len()).expect("a compressed block is little larger than 8 MiB");
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&block);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_and_are_the_same_each_time() {
        let content: Vec<u8> = (0..BLOCK + 5000).map(|at| (at / 7 % 251).to_le_bytes()[0]).collect();
        let frame = lz4_legacy(&content);
        assert!(frame.starts_with(&MAGIC));
        assert!(frame == lz4_legacy(&content));
        let (mut at, mut back) = (4, Vec::new());
        while at < frame.len() {
            let length = u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
            back.extend(lz4_flex::block::decompress(&frame[at + 4..at + 4 + length], BLOCK).unwrap());
            at += 4 + length;
        }
        assert!(back == content);
    }
}
