//! Takes the ELF `vmlinux` out of a compressed x86 boot image.
//!
//! Invariant: what is returned is an ELF file with the PVH entry note, so that a VMM can start it directly. Knows the
//! boot protocol's header and the LZ4 legacy frame, which is what the distribution's cloud kernels use; any other
//! compression is a named error.

use thiserror::Error;

use crate::elf::{Elf, ElfError};

const LZ4_LEGACY_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// A legacy frame's blocks hold this much each, the last one less.
const LZ4_LEGACY_BLOCK: usize = 8 << 20;
/// No kernel is larger; a payload that claims to be is damaged.
const MAX_VMLINUX: usize = 256 << 20;
const SECTOR: usize = 512;

#[derive(Debug, Error)]
pub(crate) enum BzImageError {
    #[error("read boot image header: no boot protocol signature")]
    NoSignature,
    #[error("read boot image header: boot protocol {found:#06x} is older than 0x0208 and names no payload")]
    TooOld { found: u16 },
    #[error("read boot image: {what} lies outside the file")]
    OutOfBounds { what: &'static str },
    #[error("unpack kernel payload: unknown compression, it begins with {magic:02x?}")]
    UnknownCompression { magic: [u8; 4] },
    #[error("unpack kernel payload: block {index}")]
    Block { index: usize, source: lz4_flex::block::DecompressError },
    #[error("unpack kernel payload: more than {MAX_VMLINUX} bytes")]
    TooLarge,
    #[error("unpack kernel payload: {found} bytes came out, the image says {expected}")]
    WrongLength { found: usize, expected: usize },
    #[error("check the unpacked kernel")]
    Elf(#[source] ElfError),
    #[error("check the unpacked kernel: no PVH entry note, so no VMM can start it directly")]
    NotPvh,
}

/// The PVH `vmlinux` inside `image`.
pub(crate) fn extract_vmlinux(image: &[u8]) -> Result<Vec<u8>, BzImageError> {
    let vmlinux = unpack(payload(image)?)?;
    match Elf::parse(&vmlinux).and_then(|elf| elf.has_pvh_note()) {
        Ok(true) => Ok(vmlinux),
        Ok(false) => Err(BzImageError::NotPvh),
        Err(source) => Err(BzImageError::Elf(source)),
    }
}

/// The compressed kernel: the header says where it lies behind the real-mode part.
fn payload(image: &[u8]) -> Result<&[u8], BzImageError> {
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return Err(BzImageError::NoSignature);
    }
    let version = u16::from_le_bytes(array(image, 0x206, "protocol version")?);
    if version < 0x0208 {
        return Err(BzImageError::TooOld { found: version });
    }
    let [sectors] = array(image, 0x1f1, "setup size")?;
    // Zero means four, for the sake of very old loaders.
    let setup = (if sectors == 0 { 4 } else { usize::from(sectors) } + 1) * SECTOR;
    let offset = word(image, 0x248, "payload offset")?;
    let length = word(image, 0x24c, "payload length")?;
    let start = setup.saturating_add(offset);
    image.get(start..start.saturating_add(length)).ok_or(BzImageError::OutOfBounds { what: "payload" })
}

/// A legacy frame is its magic and then blocks, each behind its compressed length; the build appends the length of
/// the whole, which is the only end mark there is.
fn unpack(payload: &[u8]) -> Result<Vec<u8>, BzImageError> {
    let magic: [u8; 4] = array(payload, 0, "payload magic")?;
    if magic != LZ4_LEGACY_MAGIC {
        return Err(BzImageError::UnknownCompression { magic });
    }
    let end = payload.len().saturating_sub(4).max(4);
    let expected = word(payload, end, "unpacked length")?;
    if expected > MAX_VMLINUX {
        return Err(BzImageError::TooLarge);
    }
    let mut out = vec![0u8; expected];
    let (mut at, mut filled, mut index) = (4, 0, 0);
    while at < end {
        let length = word(payload, at, "block length")?;
        let block_at = at + 4;
        let block = payload
            .get(block_at..block_at.saturating_add(length))
            .filter(|_| block_at.saturating_add(length) <= end)
            .ok_or(BzImageError::OutOfBounds { what: "block" })?;
        let block_end = (filled + LZ4_LEGACY_BLOCK).min(expected);
        let target = out.get_mut(filled..block_end).ok_or(BzImageError::TooLarge)?;
        let written =
            lz4_flex::block::decompress_into(block, target).map_err(|source| BzImageError::Block { index, source })?;
        filled += written;
        at = block_at + length;
        index += 1;
    }
    if filled != expected {
        return Err(BzImageError::WrongLength { found: filled, expected });
    }
    Ok(out)
}

fn array<const N: usize>(bytes: &[u8], at: usize, what: &'static str) -> Result<[u8; N], BzImageError> {
    let slice = bytes.get(at..at.saturating_add(N)).ok_or(BzImageError::OutOfBounds { what })?;
    slice.try_into().map_err(|_| BzImageError::OutOfBounds { what })
}

fn word(bytes: &[u8], at: usize, what: &'static str) -> Result<usize, BzImageError> {
    array(bytes, at, what).map(|bytes| u32::from_le_bytes(bytes) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::synthetic;

    fn frame(content: &[u8]) -> Vec<u8> {
        let mut frame = LZ4_LEGACY_MAGIC.to_vec();
        for chunk in content.chunks(LZ4_LEGACY_BLOCK) {
            let block = lz4_flex::block::compress(chunk);
            frame.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
            frame.extend_from_slice(&block);
        }
        frame.extend_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
        frame
    }

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0u8; 2 * SECTOR + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend_from_slice(payload);
        image.extend_from_slice(b"trailing signature");
        image
    }

    #[test]
    fn a_kernel_of_several_blocks_comes_out_whole() {
        let mut kernel = synthetic(18, ".text", b"code");
        kernel.resize(LZ4_LEGACY_BLOCK * 2 + 12345, 7);
        assert!(extract_vmlinux(&image(&frame(&kernel))).unwrap() == kernel);
    }

    #[test]
    fn a_kernel_without_the_note_is_refused() {
        let kernel = synthetic(1, ".text", b"code");
        assert!(matches!(extract_vmlinux(&image(&frame(&kernel))), Err(BzImageError::NotPvh)));
    }

    #[test]
    fn damage_is_named() {
        let good = image(&frame(&synthetic(18, ".text", b"code")));
        assert!(matches!(extract_vmlinux(b"short"), Err(BzImageError::NoSignature)));
        let mut old = good.clone();
        old[0x207] = 1;
        assert!(matches!(extract_vmlinux(&old), Err(BzImageError::TooOld { found: 0x010f })));
        assert!(matches!(
            extract_vmlinux(&good[..good.len() - 30]),
            Err(BzImageError::OutOfBounds { what: "payload" })
        ));
        assert!(matches!(
            extract_vmlinux(&image(b"\xfd7zXZ\0 and so on")),
            Err(BzImageError::UnknownCompression { magic: [0xfd, b'7', b'z', b'X'] })
        ));
        let mut lying = frame(&synthetic(18, ".text", b"code"));
        let end = lying.len() - 4;
        lying[end..].copy_from_slice(&9999u32.to_le_bytes());
        assert!(matches!(extract_vmlinux(&image(&lying)), Err(BzImageError::WrongLength { expected: 9999, .. })));
        lying[end..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(extract_vmlinux(&image(&lying)), Err(BzImageError::TooLarge)));
    }
}
