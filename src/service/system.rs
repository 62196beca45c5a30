//! The daemon itself: health, readiness, and the spec.

use std::net::SocketAddr;

use dataplane_api::types::{Health, HealthStatus, Readiness, ReadinessCheck};
use dataplane_api::{
    Cx, GetHealth, GetHealthReply, GetReadiness, GetReadinessReply, GetSpecJson, GetSpecJsonReply, GetSpecYaml,
    GetSpecYamlReply, Problem, SPEC_JSON, SPEC_YAML, SystemApi,
};

use super::{Checks, Dataplane};

impl SystemApi for Dataplane {
    async fn get_health(&self, _: Cx, _: GetHealth) -> Result<GetHealthReply, Problem> {
        Ok(GetHealthReply::Ok { body: Health { status: HealthStatus::Ok } })
    }

    async fn get_readiness(&self, _: Cx, _: GetReadiness) -> Result<GetReadinessReply, Problem> {
        let mut checks = self.checks.run().await;
        checks.push(logs(self.instances.log_bound()));
        let ready = checks.iter().all(|check| check.ok || !check.required);
        let body = Readiness { ready, checks };
        Ok(if ready { GetReadinessReply::Ok { body } } else { GetReadinessReply::ServiceUnavailable { body } })
    }

    async fn get_spec_yaml(&self, _: Cx, _: GetSpecYaml) -> Result<GetSpecYamlReply, Problem> {
        Ok(GetSpecYamlReply::Ok { body: SPEC_YAML.into() })
    }

    async fn get_spec_json(&self, _: Cx, _: GetSpecJson) -> Result<GetSpecJsonReply, Problem> {
        Ok(GetSpecJsonReply::Ok { body: SPEC_JSON.into() })
    }
}

impl Checks {
    async fn run(&self) -> Vec<ReadinessCheck> {
        let mut checks: Vec<ReadinessCheck> = self
            .vmms
            .iter()
            .enumerate()
            .map(|(index, vmm)| {
                let detail = format!("{} {}", vmm.hypervisor(), vmm.version());
                let preferred = if index == 0 { ", used unless a request names another" } else { "" };
                check("vmm", Ok(format!("{detail}{preferred}")), "")
            })
            .collect();
        let hardware = self.vmms.iter().any(|vmm| vmm.capabilities().hardware_virtualization);
        let mut kvm = check(
            "kvm",
            if hardware {
                Ok("guests run on hardware virtualization".into())
            } else {
                Err("guests are emulated in software: slow".into())
            },
            "run on a host with hardware virtualization and /dev/kvm",
        );
        kvm.required = false;
        checks.push(kvm);
        checks.push(self.data_directory());
        checks.push(self.free_space());
        checks.push(self.reflink());
        checks.extend(self.confinement());
        checks.extend(self.network.check().await.into_iter().map(|found| ReadinessCheck {
            name: found.name.to_owned(),
            ok: found.ok,
            required: found.required,
            detail: Some(found.detail),
            remedy: (!found.ok).then_some(found.remedy),
        }));
        checks.extend(self.names.as_ref().map(|names| names_check(names.status())));
        checks
    }

    fn data_directory(&self) -> ReadinessCheck {
        let probe = self.store.layout().data().join(".probe");
        // Writes and syncs: not for the runtime's threads to wait for.
        let written = tokio::task::block_in_place(|| {
            self.store.replace_bytes(&probe, b"").and_then(|()| self.store.discard_volatile(&probe))
        });
        let path = self.store.layout().data().display();
        let result = written.map(|()| format!("{path} is writable")).map_err(|error| crate::chain(&error));
        check("data_dir", result, "make DATA_DIR writable, then restart the daemon")
    }

    /// What is off is told, and is no reason not to serve.
    fn confinement(&self) -> impl Iterator<Item = ReadinessCheck> {
        self.confiner.report().into_iter().map(|(part, outcome)| {
            let remedy = "see the reason; without it VMs are kept apart by the remaining measures only";
            let found = check(part, outcome.map_err(|reason| format!("off: {reason}")), remedy);
            ReadinessCheck { required: false, ..found }
        })
    }

    fn reflink(&self) -> ReadinessCheck {
        let result = match tokio::task::block_in_place(|| self.store.shares_blocks()) {
            Ok(true) => Ok("files of DATA_DIR can share blocks".to_owned()),
            Ok(false) => Err("files of DATA_DIR cannot share blocks: copies of disks are real copies".to_owned()),
            Err(error) => Err(crate::chain(&error)),
        };
        let remedy = "put DATA_DIR on XFS or btrfs";
        ReadinessCheck { required: false, ..check("reflink", result, remedy) }
    }

    fn free_space(&self) -> ReadinessCheck {
        let result = match self.store.free_bytes() {
            Ok(free) if free >= self.reserved_bytes => Ok(format!("{free} bytes are free")),
            Ok(free) => Err(format!("{free} bytes are free, {} must stay so", self.reserved_bytes)),
            Err(error) => Err(crate::chain(&error)),
        };
        check("free_space", result, "delete images or instances, or lower RESERVED_BYTES")
    }
}

/// Logs without a bound are told, and are no reason not to serve.
fn logs(bound: Result<u64, &str>) -> ReadinessCheck {
    let result = bound.map(|limit| format!("the last {} MiB of each log are kept", limit >> 20));
    let result = result.map_err(|reason| format!("logs grow without bound, their heads cannot be freed: {reason}"));
    let remedy = "put DATA_DIR on a file system that can punch holes: ext4, XFS, btrfs, tmpfs";
    ReadinessCheck { required: false, ..check("logs", result, remedy) }
}

/// Guests without a name server of ours still have the upstream one: told, and no reason not to serve.
fn names_check(status: Result<SocketAddr, String>) -> ReadinessCheck {
    let result = status
        .map(|address| format!("guests resolve names at {address}"))
        .map_err(|reason| format!("guests cannot resolve names at the gateway: {reason}"));
    let remedy = "see what listens on port 53 of the gateway address (ss -lnp 'sport = 53') and have it leave that \
                  address out; the daemon takes the port within seconds";
    ReadinessCheck { required: false, ..check("dns", result, remedy) }
}

fn check(name: &str, result: Result<String, String>, remedy: &str) -> ReadinessCheck {
    let ok = result.is_ok();
    let detail = match result {
        Ok(detail) | Err(detail) => detail,
    };
    let remedy = (!ok).then(|| remedy.to_owned());
    ReadinessCheck { name: name.to_owned(), ok, required: true, detail: Some(detail), remedy }
}
