//! What requests must look like. Generated from `openapi.yaml` by `make generate`: do not edit.

#![allow(clippy::all, clippy::too_many_lines, clippy::unwrap_used, unused_qualifications)]

use crate::rule::{Field, Pattern, Rule};
static PATTERN_16: Pattern = Pattern::new(
    "^(?!00:00:00:00:00:00$)[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$",
);
static PATTERN_3: Pattern = Pattern::new(
    "^(?!import$)[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?$",
);
static PATTERN_9: Pattern = Pattern::new(
    "^(\\*|(W/)?\"[\\u0021\\u0023-\\u007e]*\"( *, *(W/)?\"[\\u0021\\u0023-\\u007e]*\")*)$",
);
static PATTERN_14: Pattern = Pattern::new("^/[^\\u0000]*$");
static PATTERN_17: Pattern = Pattern::new("^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$");
static PATTERN_18: Pattern = Pattern::new("^[0-9]{1,5}(-[0-9]{1,5})?$");
static PATTERN_19: Pattern = Pattern::new("^[A-Za-z0-9+-]+$");
static PATTERN_15: Pattern = Pattern::new(
    "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
);
static PATTERN_8: Pattern = Pattern::new(
    "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$",
);
static PATTERN_1: Pattern = Pattern::new(
    "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?=[^\\u0000-\\u001f\\u007f]*$",
);
static PATTERN_2: Pattern = Pattern::new("^[A-Za-z0-9][A-Za-z0-9._:/@-]*$");
static PATTERN_0: Pattern = Pattern::new("^[A-Za-z0-9_-]+$");
static PATTERN_12: Pattern = Pattern::new("^[^=\\u0000]+$");
static PATTERN_5: Pattern = Pattern::new("^[^\\u0000-\\u001f\\u007f:]+$");
static PATTERN_7: Pattern = Pattern::new("^[^\\u0000-\\u001f\\u007f]*$");
static PATTERN_6: Pattern = Pattern::new("^[^\\u0000-\\u001f\\u007f]+$");
static PATTERN_13: Pattern = Pattern::new(
    "^[^\\u0000-\\u0020\\u007f:]{1,128}(:[^\\u0000-\\u0020\\u007f:]{1,128})?$",
);
static PATTERN_11: Pattern = Pattern::new("^[^\\u0000]*$");
static PATTERN_10: Pattern = Pattern::new("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$");
static PATTERN_4: Pattern = Pattern::new("^linux/[a-z0-9_]+(/[a-z0-9._]+)?$");
pub(super) static ARGUMENT: Rule = Rule::Text {
    min: 0usize,
    max: 131071usize,
    pattern: Some(&PATTERN_11),
};
pub(super) static CREATE_IMAGE_REQUEST: Rule = Rule::Object(
    &[
        Field {
            name: "name",
            required: true,
            rule: &Rule::Named(&IMAGE_REFERENCE),
        },
        Field {
            name: "id",
            required: false,
            rule: &Rule::Named(&IMAGE_ID),
        },
        Field {
            name: "source",
            required: false,
            rule: &Rule::Named(&IMAGE_SOURCE),
        },
        Field {
            name: "platform",
            required: false,
            rule: &Rule::Named(&PLATFORM),
        },
        Field {
            name: "credentials",
            required: false,
            rule: &Rule::Named(&REGISTRY_CREDENTIALS),
        },
        Field {
            name: "labels",
            required: false,
            rule: &Rule::Named(&LABELS),
        },
    ],
);
pub(super) static CREATE_INSTANCE_REQUEST: Rule = Rule::Object(
    &[
        Field {
            name: "id",
            required: false,
            rule: &Rule::Named(&INSTANCE_ID),
        },
        Field {
            name: "name",
            required: false,
            rule: &Rule::Named(&DISPLAY_NAME),
        },
        Field {
            name: "image",
            required: true,
            rule: &Rule::Named(&IMAGE_REFERENCE),
        },
        Field {
            name: "memory_mb",
            required: false,
            rule: &Rule::Integer {
                min: 64i64,
                max: 1048576i64,
            },
        },
        Field {
            name: "memory_max_mb",
            required: false,
            rule: &Rule::Integer {
                min: 64i64,
                max: 1048576i64,
            },
        },
        Field {
            name: "vcpus",
            required: false,
            rule: &Rule::Integer {
                min: 1i64,
                max: 254i64,
            },
        },
        Field {
            name: "max_vcpus",
            required: false,
            rule: &Rule::Integer {
                min: 1i64,
                max: 254i64,
            },
        },
        Field {
            name: "disk_gb",
            required: false,
            rule: &Rule::Integer {
                min: 1i64,
                max: 16384i64,
            },
        },
        Field {
            name: "env",
            required: false,
            rule: &Rule::Named(&ENVIRONMENT),
        },
        Field {
            name: "entrypoint",
            required: false,
            rule: &Rule::Array {
                items: &Rule::Named(&ARGUMENT),
                min: 0usize,
                max: 4096usize,
            },
        },
        Field {
            name: "cmd",
            required: false,
            rule: &Rule::Array {
                items: &Rule::Named(&ARGUMENT),
                min: 0usize,
                max: 4096usize,
            },
        },
        Field {
            name: "user",
            required: false,
            rule: &Rule::Named(&USER),
        },
        Field {
            name: "working_dir",
            required: false,
            rule: &Rule::Named(&WORKING_DIR),
        },
        Field {
            name: "hostname",
            required: false,
            rule: &Rule::Named(&HOSTNAME),
        },
        Field {
            name: "network",
            required: false,
            rule: &Rule::Named(&NETWORK_CONFIG),
        },
        Field {
            name: "port_mappings",
            required: false,
            rule: &Rule::Named(&PORT_MAPPINGS),
        },
        Field {
            name: "labels",
            required: false,
            rule: &Rule::Named(&LABELS),
        },
        Field {
            name: "hypervisor",
            required: false,
            rule: &Rule::Named(&HYPERVISOR),
        },
        Field {
            name: "standby",
            required: false,
            rule: &Rule::Named(&STANDBY_CLASS),
        },
        Field {
            name: "restart_policy",
            required: false,
            rule: &Rule::Named(&RESTART_POLICY),
        },
    ],
);
pub(super) static CURSOR: Rule = Rule::Text {
    min: 1usize,
    max: 512usize,
    pattern: Some(&PATTERN_0),
};
pub(super) static DISPLAY_NAME: Rule = Rule::Text {
    min: 1usize,
    max: 255usize,
    pattern: Some(&PATTERN_6),
};
pub(super) static EGRESS_PROTOCOL: Rule = Rule::Choice(&["tcp", "udp", "icmp"]);
pub(super) static EGRESS_RULE: Rule = Rule::Object(
    &[
        Field {
            name: "cidr",
            required: true,
            rule: &Rule::Text {
                min: 9usize,
                max: 18usize,
                pattern: Some(&PATTERN_17),
            },
        },
        Field {
            name: "protocol",
            required: false,
            rule: &Rule::Named(&EGRESS_PROTOCOL),
        },
        Field {
            name: "ports",
            required: false,
            rule: &Rule::Array {
                items: &Rule::Named(&PORT_RANGE),
                min: 1usize,
                max: 64usize,
            },
        },
    ],
);
pub(super) static ENVIRONMENT: Rule = Rule::Map {
    keys: &Rule::Text {
        min: 1usize,
        max: 256usize,
        pattern: Some(&PATTERN_12),
    },
    values: &Rule::Text {
        min: 0usize,
        max: 131071usize,
        pattern: Some(&PATTERN_11),
    },
    max: 1024usize,
};
pub(super) static EXEC_REQUEST: Rule = Rule::Object(
    &[
        Field {
            name: "command",
            required: true,
            rule: &Rule::Array {
                items: &Rule::Named(&ARGUMENT),
                min: 1usize,
                max: 4096usize,
            },
        },
        Field {
            name: "env",
            required: false,
            rule: &Rule::Named(&ENVIRONMENT),
        },
        Field {
            name: "cwd",
            required: false,
            rule: &Rule::Named(&WORKING_DIR),
        },
        Field {
            name: "user",
            required: false,
            rule: &Rule::Named(&USER),
        },
        Field {
            name: "tty",
            required: false,
            rule: &Rule::Boolean,
        },
        Field {
            name: "rows",
            required: false,
            rule: &Rule::Integer {
                min: 1i64,
                max: 65535i64,
            },
        },
        Field {
            name: "columns",
            required: false,
            rule: &Rule::Integer {
                min: 1i64,
                max: 65535i64,
            },
        },
        Field {
            name: "stdin",
            required: false,
            rule: &Rule::Text {
                min: 0usize,
                max: 1048576usize,
                pattern: None,
            },
        },
        Field {
            name: "stdin_base64",
            required: false,
            rule: &Rule::Text {
                min: 0usize,
                max: 1048576usize,
                pattern: None,
            },
        },
        Field {
            name: "timeout_seconds",
            required: false,
            rule: &Rule::Integer {
                min: 1i64,
                max: 86400i64,
            },
        },
        Field {
            name: "max_output_bytes",
            required: false,
            rule: &Rule::Integer {
                min: 0i64,
                max: 16777216i64,
            },
        },
        Field {
            name: "detach",
            required: false,
            rule: &Rule::Boolean,
        },
    ],
);
pub(super) static GRACE_REQUEST: Rule = Rule::Object(
    &[
        Field {
            name: "grace_seconds",
            required: false,
            rule: &Rule::Integer {
                min: 0i64,
                max: 3600i64,
            },
        },
    ],
);
pub(super) static HOSTNAME: Rule = Rule::Text {
    min: 1usize,
    max: 64usize,
    pattern: Some(&PATTERN_15),
};
pub(super) static HYPERVISOR: Rule = Rule::Choice(&["cloud-hypervisor", "qemu"]);
pub(super) static IF_MATCH: Rule = Rule::Text {
    min: 1usize,
    max: 1024usize,
    pattern: Some(&PATTERN_9),
};
pub(super) static IMAGE_ID: Rule = Rule::Text {
    min: 1usize,
    max: 128usize,
    pattern: Some(&PATTERN_3),
};
pub(super) static IMAGE_REFERENCE: Rule = Rule::Text {
    min: 1usize,
    max: 512usize,
    pattern: Some(&PATTERN_2),
};
pub(super) static IMAGE_SOURCE: Rule = Rule::Choice(&["registry"]);
pub(super) static INSTANCE_ID: Rule = Rule::Text {
    min: 1usize,
    max: 63usize,
    pattern: Some(&PATTERN_10),
};
pub(super) static INSTANCE_STATE: Rule = Rule::Choice(
    &["Created", "Running", "Paused", "Shutdown", "Stopped", "Standby"],
);
pub(super) static LABEL_FILTER: Rule = Rule::Text {
    min: 2usize,
    max: 320usize,
    pattern: Some(&PATTERN_1),
};
pub(super) static LABELS: Rule = Rule::Map {
    keys: &Rule::Text {
        min: 1usize,
        max: 63usize,
        pattern: Some(&PATTERN_8),
    },
    values: &Rule::Text {
        min: 0usize,
        max: 255usize,
        pattern: Some(&PATTERN_7),
    },
    max: 32usize,
};
pub(super) static LOG_SOURCE: Rule = Rule::Choice(&["app", "vmm", "dataplane"]);
pub(super) static MAC: Rule = Rule::Text {
    min: 17usize,
    max: 17usize,
    pattern: Some(&PATTERN_16),
};
pub(super) static NETWORK_CONFIG: Rule = Rule::Object(
    &[
        Field {
            name: "enabled",
            required: false,
            rule: &Rule::Boolean,
        },
        Field {
            name: "ip",
            required: false,
            rule: &Rule::Text {
                min: 7usize,
                max: 15usize,
                pattern: None,
            },
        },
        Field {
            name: "mac",
            required: false,
            rule: &Rule::Named(&MAC),
        },
        Field {
            name: "bandwidth_mbps",
            required: false,
            rule: &Rule::Integer {
                min: 1i64,
                max: 100000i64,
            },
        },
        Field {
            name: "egress",
            required: false,
            rule: &Rule::Array {
                items: &Rule::Named(&EGRESS_RULE),
                min: 0usize,
                max: 64usize,
            },
        },
    ],
);
pub(super) static NETWORK_PATCH: Rule = Rule::Object(
    &[
        Field {
            name: "bandwidth_mbps",
            required: false,
            rule: &Rule::Nullable(
                &Rule::Integer {
                    min: 1i64,
                    max: 100000i64,
                },
            ),
        },
    ],
);
pub(super) static PATCH_INSTANCE_REQUEST: Rule = Rule::Object(
    &[
        Field {
            name: "name",
            required: false,
            rule: &Rule::Nullable(
                &Rule::Text {
                    min: 1usize,
                    max: 255usize,
                    pattern: Some(&PATTERN_6),
                },
            ),
        },
        Field {
            name: "labels",
            required: false,
            rule: &Rule::Map {
                keys: &Rule::Text {
                    min: 1usize,
                    max: 63usize,
                    pattern: Some(&PATTERN_8),
                },
                values: &Rule::Nullable(
                    &Rule::Text {
                        min: 0usize,
                        max: 255usize,
                        pattern: Some(&PATTERN_7),
                    },
                ),
                max: 32usize,
            },
        },
        Field {
            name: "memory_mb",
            required: false,
            rule: &Rule::Integer {
                min: 64i64,
                max: 1048576i64,
            },
        },
        Field {
            name: "vcpus",
            required: false,
            rule: &Rule::Integer {
                min: 1i64,
                max: 254i64,
            },
        },
        Field {
            name: "network",
            required: false,
            rule: &Rule::Named(&NETWORK_PATCH),
        },
        Field {
            name: "port_mappings",
            required: false,
            rule: &Rule::Named(&PORT_MAPPINGS),
        },
    ],
);
pub(super) static PLATFORM: Rule = Rule::Text {
    min: 3usize,
    max: 64usize,
    pattern: Some(&PATTERN_4),
};
pub(super) static PORT_MAPPING: Rule = Rule::Object(
    &[
        Field {
            name: "host_port",
            required: true,
            rule: &Rule::Integer {
                min: 1i64,
                max: 65535i64,
            },
        },
        Field {
            name: "guest_port",
            required: true,
            rule: &Rule::Integer {
                min: 1i64,
                max: 65535i64,
            },
        },
        Field {
            name: "protocol",
            required: false,
            rule: &Rule::Named(&TRANSPORT),
        },
    ],
);
pub(super) static PORT_MAPPINGS: Rule = Rule::Array {
    items: &Rule::Named(&PORT_MAPPING),
    min: 0usize,
    max: 64usize,
};
pub(super) static PORT_RANGE: Rule = Rule::Text {
    min: 1usize,
    max: 11usize,
    pattern: Some(&PATTERN_18),
};
pub(super) static PREFER: Rule = Rule::Text {
    min: 0usize,
    max: 1024usize,
    pattern: None,
};
pub(super) static REGISTRY_CREDENTIALS: Rule = Rule::Object(
    &[
        Field {
            name: "username",
            required: false,
            rule: &Rule::Text {
                min: 1usize,
                max: 256usize,
                pattern: Some(&PATTERN_5),
            },
        },
        Field {
            name: "password",
            required: false,
            rule: &Rule::Named(&SECRET),
        },
        Field {
            name: "registry_token",
            required: false,
            rule: &Rule::Named(&SECRET),
        },
    ],
);
pub(super) static RESTART_POLICY: Rule = Rule::Choice(
    &["never", "on_failure", "always"],
);
pub(super) static SECRET: Rule = Rule::Text {
    min: 1usize,
    max: 16384usize,
    pattern: Some(&PATTERN_6),
};
pub(super) static SIGNAL_REQUEST: Rule = Rule::Object(
    &[
        Field {
            name: "signal",
            required: true,
            rule: &Rule::Text {
                min: 1usize,
                max: 16usize,
                pattern: Some(&PATTERN_19),
            },
        },
        Field {
            name: "group",
            required: false,
            rule: &Rule::Boolean,
        },
    ],
);
pub(super) static STANDBY_CLASS: Rule = Rule::Choice(&["sparse", "instant"]);
pub(super) static TRANSPORT: Rule = Rule::Choice(&["tcp", "udp"]);
pub(super) static USER: Rule = Rule::Text {
    min: 1usize,
    max: 257usize,
    pattern: Some(&PATTERN_13),
};
pub(super) static WORKING_DIR: Rule = Rule::Text {
    min: 1usize,
    max: 4095usize,
    pattern: Some(&PATTERN_14),
};
pub(super) static LIST_IMAGES_LIMIT: Rule = Rule::Integer {
    min: 1i64,
    max: 1000i64,
};
pub(super) static LIST_IMAGES_CURSOR: Rule = Rule::Named(&CURSOR);
pub(super) static LIST_IMAGES_LABEL: Rule = Rule::Array {
    items: &Rule::Named(&LABEL_FILTER),
    min: 0usize,
    max: 32usize,
};
pub(super) static CREATE_IMAGE_PREFER: Rule = Rule::Named(&PREFER);
pub(super) static IMPORT_IMAGE_NAME: Rule = Rule::Named(&IMAGE_REFERENCE);
pub(super) static IMPORT_IMAGE_ID: Rule = Rule::Named(&IMAGE_ID);
pub(super) static GET_IMAGE_IMAGE_ID: Rule = Rule::Named(&IMAGE_ID);
pub(super) static DELETE_IMAGE_IMAGE_ID: Rule = Rule::Named(&IMAGE_ID);
pub(super) static DELETE_IMAGE_IF_MATCH: Rule = Rule::Named(&IF_MATCH);
pub(super) static LIST_INSTANCES_LIMIT: Rule = Rule::Integer {
    min: 1i64,
    max: 1000i64,
};
pub(super) static LIST_INSTANCES_CURSOR: Rule = Rule::Named(&CURSOR);
pub(super) static LIST_INSTANCES_LABEL: Rule = Rule::Array {
    items: &Rule::Named(&LABEL_FILTER),
    min: 0usize,
    max: 32usize,
};
pub(super) static LIST_INSTANCES_STATE: Rule = Rule::Array {
    items: &Rule::Named(&INSTANCE_STATE),
    min: 0usize,
    max: 6usize,
};
pub(super) static LIST_INSTANCES_IMAGE: Rule = Rule::Named(&IMAGE_ID);
pub(super) static GET_INSTANCE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static PATCH_INSTANCE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static PATCH_INSTANCE_IF_MATCH: Rule = Rule::Named(&IF_MATCH);
pub(super) static DELETE_INSTANCE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static DELETE_INSTANCE_GRACE_SECONDS: Rule = Rule::Integer {
    min: 0i64,
    max: 3600i64,
};
pub(super) static DELETE_INSTANCE_IF_MATCH: Rule = Rule::Named(&IF_MATCH);
pub(super) static START_INSTANCE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static START_INSTANCE_DISCARD_SNAPSHOT: Rule = Rule::Boolean;
pub(super) static START_INSTANCE_IF_MATCH: Rule = Rule::Named(&IF_MATCH);
pub(super) static STOP_INSTANCE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static STOP_INSTANCE_DISCARD_SNAPSHOT: Rule = Rule::Boolean;
pub(super) static STOP_INSTANCE_IF_MATCH: Rule = Rule::Named(&IF_MATCH);
pub(super) static REBOOT_INSTANCE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static REBOOT_INSTANCE_IF_MATCH: Rule = Rule::Named(&IF_MATCH);
pub(super) static PAUSE_INSTANCE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static PAUSE_INSTANCE_IF_MATCH: Rule = Rule::Named(&IF_MATCH);
pub(super) static RESUME_INSTANCE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static RESUME_INSTANCE_IF_MATCH: Rule = Rule::Named(&IF_MATCH);
pub(super) static STANDBY_INSTANCE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static STANDBY_INSTANCE_IF_MATCH: Rule = Rule::Named(&IF_MATCH);
pub(super) static RESTORE_INSTANCE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static RESTORE_INSTANCE_IF_MATCH: Rule = Rule::Named(&IF_MATCH);
pub(super) static WAIT_FOR_INSTANCE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static WAIT_FOR_INSTANCE_STATE: Rule = Rule::Array {
    items: &Rule::Named(&INSTANCE_STATE),
    min: 0usize,
    max: 6usize,
};
pub(super) static WAIT_FOR_INSTANCE_READY: Rule = Rule::Boolean;
pub(super) static WAIT_FOR_INSTANCE_TIMEOUT_SECONDS: Rule = Rule::Integer {
    min: 0i64,
    max: 3600i64,
};
pub(super) static EXEC_IN_INSTANCE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static ATTACH_EXEC_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static LIST_PROCESSES_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static GET_PROCESS_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static GET_PROCESS_PID: Rule = Rule::Integer {
    min: 1i64,
    max: 4194304i64,
};
pub(super) static GET_PROCESS_WAIT_SECONDS: Rule = Rule::Integer {
    min: 0i64,
    max: 3600i64,
};
pub(super) static KILL_PROCESS_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static KILL_PROCESS_PID: Rule = Rule::Integer {
    min: 1i64,
    max: 4194304i64,
};
pub(super) static SIGNAL_PROCESS_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static SIGNAL_PROCESS_PID: Rule = Rule::Integer {
    min: 1i64,
    max: 4194304i64,
};
pub(super) static READ_FILES_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static READ_FILES_PATH: Rule = Rule::Text {
    min: 1usize,
    max: 4095usize,
    pattern: Some(&PATTERN_14),
};
pub(super) static READ_FILES_FOLLOW: Rule = Rule::Boolean;
pub(super) static WRITE_FILES_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static WRITE_FILES_PATH: Rule = Rule::Text {
    min: 1usize,
    max: 4095usize,
    pattern: Some(&PATTERN_14),
};
pub(super) static WRITE_FILES_FOLLOW: Rule = Rule::Boolean;
pub(super) static STAT_FILE_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static STAT_FILE_PATH: Rule = Rule::Text {
    min: 1usize,
    max: 4095usize,
    pattern: Some(&PATTERN_14),
};
pub(super) static STAT_FILE_FOLLOW: Rule = Rule::Boolean;
pub(super) static STAT_FILE_LIST: Rule = Rule::Boolean;
pub(super) static GET_INSTANCE_STATS_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static GET_INSTANCE_STATS_PSS: Rule = Rule::Boolean;
pub(super) static GET_INSTANCE_LOGS_INSTANCE_ID: Rule = Rule::Named(&INSTANCE_ID);
pub(super) static GET_INSTANCE_LOGS_SOURCE: Rule = Rule::Named(&LOG_SOURCE);
pub(super) static GET_INSTANCE_LOGS_TAIL: Rule = Rule::Integer {
    min: 0i64,
    max: 100000i64,
};
pub(super) static GET_INSTANCE_LOGS_OFFSET: Rule = Rule::Integer {
    min: 0i64,
    max: 9007199254740991i64,
};
pub(super) static GET_INSTANCE_LOGS_FOLLOW: Rule = Rule::Boolean;
pub(super) static GET_INSTANCE_LOGS_LAST_EVENT_ID: Rule = Rule::Integer {
    min: 0i64,
    max: 9007199254740991i64,
};
