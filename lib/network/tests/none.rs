//! The network of a machine that has none: everything may be asked, addresses are handed out, nothing is touched.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests")]

use std::sync::Arc;

use dataplane_network::{ClaimError, Network, NetworkConfig, NoBackend};
use dataplane_types::{AddressPlan, GuestPolicy, InstanceId, TapName};
use uuid::Uuid;

fn network() -> Network {
    let plan = AddressPlan::new("10.0.0.0/24".parse().unwrap(), "10.0.0.1".parse().unwrap()).unwrap();
    let config = NetworkConfig {
        bridge: "vmbr0".parse().unwrap(),
        plan,
        uplink: None,
        dns_server: [1, 1, 1, 1].into(),
        owner: Uuid::nil(),
    };
    Network::new(config, Arc::new(NoBackend))
}

#[tokio::test]
async fn every_act_succeeds_and_repeats() {
    let network = network();
    let id: InstanceId = "web-1".parse().unwrap();
    for _ in 0..2 {
        assert_eq!(network.start().await.unwrap().uplink, None);
        let link = network.claim(&id, None, None, &[]).unwrap();
        network.ensure(&id, &link, &GuestPolicy::default(), 1000).await.unwrap();
        network.remove(&link).await.unwrap();
        assert_eq!(network.sweep(&[]).await.unwrap(), Vec::<String>::new());
    }
    let checks = network.check().await;
    assert!(checks.iter().all(|check| check.ok), "{checks:?}");
    network.teardown().await.unwrap();
}

#[tokio::test]
async fn records_come_back_after_a_restart() {
    let (first, second) = (network(), network());
    let (one, two): (InstanceId, InstanceId) = ("one".parse().unwrap(), "two".parse().unwrap());
    let link = first.claim(&one, None, None, &[]).unwrap();
    second.adopt(&one, &link, &GuestPolicy::default()).unwrap();
    let taken = second.claim(&two, Some(link.ip), None, &[]);
    assert!(matches!(taken, Err(ClaimError::AddressInUse { holder, .. }) if holder == one));
    second.release(&one);
    assert_eq!(second.claim(&two, Some(link.ip), None, &[]).unwrap().tap, TapName::of(link.ip));
}
