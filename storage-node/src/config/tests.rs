use std::path::Path;

use super::*;

/// A machine whose host name others can reach, or not.
struct Somewhere {
    reachable: bool,
    memory: Option<u64>,
}

impl Machine for Somewhere {
    fn host_name(&self) -> Option<String> {
        Some("here".to_owned())
    }

    fn leads_here(&self, host: &str) -> bool {
        self.reachable && host == "here"
    }

    fn memory_limit(&self) -> Option<u64> {
        self.memory
    }
}

const HERE: Somewhere = Somewhere { reachable: true, memory: None };
/// A container that says nothing of its host name, with so much memory.
const CONTAINER: Somewhere = Somewhere { reachable: false, memory: Some(512 << 20) };

fn flags(line: &str) -> CommandLine {
    let words = std::iter::once("trilith-node").chain(line.split_whitespace());
    let matches = command().try_get_matches_from(words).unwrap();
    CommandLine::from_arg_matches(&matches).unwrap()
}

fn configured(line: &str) -> Result<NodeConfig, ConfigError> {
    validate(flags(line).settings, &HERE)
}

fn in_file(text: &str) -> Result<Settings, ConfigError> {
    file::parse(Path::new("node.yaml"), text)
}

fn refusal<T: std::fmt::Debug>(result: Result<T, ConfigError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_data_folder_is_all_that_must_be_given() {
    let config = configured("--data /data").unwrap();
    assert_eq!(config.name, "here");
    assert_eq!(config.listen.grpc.to_string(), "127.0.0.1:7400");
    assert_eq!(config.advertise.peer.to_string(), "127.0.0.1:7401");
    assert_eq!(config.limits.max_value_bytes, 8 << 20);
    assert_eq!(config.timing.election_timeout_min, Duration::from_millis(250));
    assert!(refusal(configured("")).contains("--data"));
}

#[test]
fn the_command_line_is_well_formed() {
    command().debug_assert();
}

#[test]
fn help_shows_every_default() {
    // Lines are broken to the width of the terminal.
    let help = command().render_help().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let defaults = serde_yaml::to_value(Settings::defaults()).unwrap();
    for name in known_names() {
        if let Some(default) = defaults.get(&name).and_then(shown) {
            assert!(help.contains(&format!("[default: {default}]")), "{name}");
        }
    }
}

#[test]
fn a_flag_counts_before_the_file_and_the_file_before_the_default() {
    let file = in_file("name: from-file\nzone: from-file\n").unwrap();
    let config = validate(flags("--data /data --name from-flag").settings.or(file), &HERE).unwrap();
    assert_eq!(config.name, "from-flag");
    assert_eq!(config.zone, "from-file");
    assert_eq!(config.host, "");
}

#[test]
fn every_setting_has_a_flag_a_variable_and_a_name_in_the_file() {
    let everything = Settings::from(&configured("--data /data --resp-socket /socket").unwrap());
    let yaml = serde_yaml::to_value(&everything).unwrap();
    let settings = Settings::augment_args(clap::Command::new("settings"));
    assert_eq!(yaml.as_mapping().unwrap().len(), settings.get_arguments().count());
    for arg in settings.get_arguments() {
        let name = arg.get_id().as_str();
        assert!(!yaml[name].is_null(), "{name} is not in the file");
        assert_eq!(arg.get_long(), Some(name.replace('_', "-").as_str()));
        assert_eq!(arg.get_env(), Some(format!("TRILITH_{}", name.to_uppercase()).as_ref()));
        assert!(arg.get_help().is_some(), "{name} has no help");
    }
}

#[test]
fn a_printed_configuration_leads_to_the_same_one() {
    let line = "--data /data --port-offset 30 --listen-grpc 0.0.0.0:7400 --join a:7400,b:7410 --zone z --host h \
                --heartbeat-interval 1s --election-timeout-min 3s --election-timeout-max 5s --sleep-after 7s --max-value-bytes 1MiB \
                --log-format json --log-level debug --slow-operation off --otlp-endpoint http://c:4317 --otlp-sampling-ratio 0.5 --worker-threads 4 --exit-with-parent";
    let printed = match flags(&format!("{line} --print-config")).start(&HERE).unwrap() {
        Start::Print(printed) => printed,
        Start::Serve(_) => panic!("it was to be printed"),
    };
    assert_eq!(validate(in_file(&printed).unwrap(), &CONTAINER).unwrap(), configured(line).unwrap());
}

#[test]
fn a_file_is_read_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.yaml");
    std::fs::write(&path, "data: /data\nmax_key_bytes: 1024\nmax_value_bytes: 1MiB\n").unwrap();
    let start = flags(&format!("--config {}", path.display())).start(&HERE).unwrap();
    let Start::Serve(config) = start else { panic!("nothing was to be printed") };
    assert_eq!(config.limits.max_key_bytes, 1024);
    assert_eq!(config.limits.max_value_bytes, 1 << 20);

    let missing = flags("--config /nowhere/node.yaml").start(&HERE);
    assert!(refusal(missing).contains("/nowhere/node.yaml"));
}

#[test]
fn an_unknown_name_in_the_file_is_refused_with_the_nearest() {
    for (name, meant) in
        [("listen-grpc", "listen_grpc"), ("max_value_byte", "max_value_bytes"), ("zones", "zone")]
    {
        let message = refusal(in_file(&format!("{name}: 1")));
        assert!(message.contains(&format!("{name:?}; did you mean {meant:?}?")), "{message}");
    }
    let message = refusal(in_file("qqq: 1"));
    assert!(message.ends_with("there is no setting \"qqq\""), "{message}");
}

#[test]
fn a_wrong_value_in_the_file_is_refused_by_its_name() {
    let message = refusal(in_file("name: node-1\nheartbeat_interval: 250\n"));
    assert!(message.contains("heartbeat_interval: ") && message.contains("such as 250ms"), "{message}");
    let message = refusal(in_file("name: node-1\n\tzone: z\n"));
    assert!(message.contains("line 2"), "{message}");
    let message = refusal(in_file("max_key_bytes: -1"));
    assert!(message.contains("max_key_bytes"), "{message}");
    let message = refusal(in_file("name: a\nname: b"));
    assert!(message.contains("duplicate"), "{message}");
    assert!(matches!(in_file("- a\n- b"), Err(ConfigError::NotSettings { .. })));
    assert_eq!(in_file("# nothing yet\n").unwrap(), Settings::default());
}

#[test]
fn listening_everywhere_needs_an_address_that_others_can_dial() {
    let everywhere = "--data /data --listen-peer 0.0.0.0:7401";
    assert_eq!(configured(everywhere).unwrap().advertise.peer.to_string(), "here:7401");

    let message = refusal(validate(flags(everywhere).settings, &CONTAINER));
    assert!(message.starts_with("advertise_peer: "), "{message}");

    let told = flags(&format!("{everywhere} --advertise-peer node-1.example:9000")).settings;
    assert_eq!(validate(told, &CONTAINER).unwrap().advertise.peer.to_string(), "node-1.example:9000");
}

#[test]
fn the_offset_moves_every_port_but_a_free_one() {
    let config = configured("--data /data --port-offset 20 --listen-http 127.0.0.1:0").unwrap();
    assert_eq!(config.listen.grpc.port(), 7420);
    assert_eq!(config.advertise.grpc.port(), 7420);
    assert_eq!(config.listen.http.port(), 0);
    assert!(refusal(configured("--data /data --port-offset 65000")).starts_with("port_offset: "));
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let cases = [
        ("--election-timeout-min 150ms", "election_timeout_min"),
        ("--election-timeout-max 250ms", "election_timeout_max"),
        ("--heartbeat-interval 1ms", "heartbeat_interval"),
        ("--sleep-after 400ms", "sleep_after"),
        ("--max-key-bytes 0", "max_key_bytes"),
        ("--max-key-bytes 1MiB", "max_key_bytes"),
        ("--max-batch-bytes 1MiB", "max_batch_bytes"),
        ("--max-batch-bytes 64MiB", "max_batch_bytes"),
        ("--max-batch-operations 0", "max_batch_operations"),
        ("--max-waiting-write-bytes 1MiB", "max_waiting_write_bytes"),
        ("--scan-page-bytes 12MiB", "scan_page_bytes"),
        ("--scan-page-items 0", "scan_page_items"),
        ("--disk-nearly-full-percent 90", "disk_nearly_full_percent"),
        ("--write-buffer-bytes 1", "write_buffer_bytes"),
        ("--log-buffer-bytes 1", "log_buffer_bytes"),
        ("--bloom-bits 25", "bloom_bits"),
        ("--background-bytes-per-second 1000", "background_bytes_per_second"),
        ("--memory 128MiB", "memory"),
        ("--memory 512MiB --block-cache-bytes 512MiB", "memory"),
        ("--memory 512MiB --max-connection-bytes 1MiB", "max_connection_bytes"),
        ("--log-level =loud=", "log_level"),
        ("--name a/b", "name"),
        ("--name 67e55044-10b1-426f-9247-bb680e5fe0c8", "name"),
        ("--listen-peer 127.0.0.1:7400", "listen_peer"),
        ("--listen-text 127.0.0.1:6379", "listen_text"),
        ("--max-connections 0", "max_connections"),
        ("--max-connection-bytes 1MiB", "max_connection_bytes"),
        ("--slow-operation 0ms", "slow_operation"),
    ];
    for (line, name) in cases {
        let message = refusal(configured(&format!("--data /data {line}")));
        assert!(message.starts_with(&format!("{name}: ")), "{line}: {message}");
    }
}

#[test]
fn without_a_memory_and_without_a_limit_sizes_are_fixed() {
    let config = configured("--data /data").unwrap();
    assert_eq!(config.storage.memory, None);
    assert_eq!(config.storage.block_cache_bytes, 256 << 20);
    assert_eq!(config.storage.write_buffer_bytes, 128 << 20);
    assert_eq!(config.storage.log_buffer_bytes, 64 << 20);
    assert_eq!(config.storage.recent_entries_bytes, 256 << 20);
    assert_eq!(config.limits.max_waiting_write_bytes, 64 << 20);
    assert_eq!(config.doors.max_connection_bytes, 256 << 20);
}

#[test]
fn the_sizes_are_parts_of_the_memory_or_of_the_limit() {
    let given = configured("--data /data --memory 512Mi").unwrap();
    assert_eq!(given.storage.memory, Some(512 << 20));
    assert_eq!(Parts::from(&given).with_other(ByteSize::mib(512)), ByteSize::mib(512));
    let found = validate(flags("--data /data").settings, &CONTAINER).unwrap();
    assert_eq!(found.storage, given.storage);
    let off = validate(flags("--data /data --memory off").settings, &CONTAINER).unwrap();
    assert_eq!(off, configured("--data /data").unwrap());
}

#[test]
fn a_limit_that_is_too_small_starts_a_node_all_the_same() {
    let line = "--data /data --block-cache-bytes 1GiB";
    let config = validate(flags(line).settings, &CONTAINER).unwrap();
    assert_eq!(config.storage.memory, None);
    assert_eq!(config.storage.block_cache_bytes, 1 << 30);
    assert_eq!(config.storage.write_buffer_bytes, 20 << 20);
    let tiny = Somewhere { reachable: true, memory: Some(64 << 20) };
    let config = validate(flags("--data /data").settings, &tiny).unwrap();
    assert_eq!(config.storage.block_cache_bytes, 8 << 20);
    assert_eq!(config.limits.max_waiting_write_bytes, config.limits.max_batch_bytes);
    let Start::Print(printed) = flags("--data /data --print-config").start(&tiny).unwrap() else {
        panic!("it was to be printed")
    };
    assert_eq!(validate(in_file(&printed).unwrap(), &HERE).unwrap(), config);
}

#[test]
fn too_little_memory_is_refused_with_the_least() {
    let message = refusal(configured("--data /data --memory 128MiB"));
    assert!(message.contains("128MiB is less than 208MiB"), "{message}");
    configured("--data /data --memory 208MiB").unwrap();
}

#[test]
fn a_file_may_say_off_and_on_as_it_likes() {
    let file = in_file("memory: off\nmemory_mapped_reads: true\ncompression: none\nbloom_bits: 0\n").unwrap();
    let config = validate(flags("--data /data").settings.or(file), &CONTAINER).unwrap();
    assert!(config.storage.memory_mapped_reads);
    assert_eq!((config.storage.compression, config.storage.bloom_bits), (Compression::None, 0));
    assert_eq!(config.storage.block_cache_bytes, 256 << 20);
    let message = refusal(in_file("compression: gzip"));
    assert!(message.contains("compression: ") && message.contains("lz4"), "{message}");
}
