use clap::Parser as _;

use super::*;
use crate::arguments::Arguments;

fn session() -> Global {
    // Nobody listens there, and no test gets so far.
    let words = ["trilith", "-e", "127.0.0.1:1", "-t", "orders", "-o", "json", "--timeout", "7s", "ping"];
    Arguments::try_parse_from(words).unwrap().global
}

fn parse_line(line: &str) -> Arguments {
    let words = line.split(' ').map(OsString::from).collect();
    grammar::parse(words, &session()).unwrap()
}

#[test]
fn what_the_session_says_holds_unless_a_line_says_otherwise() {
    let global = parse_line("get k").global;
    assert_eq!((global.table.as_str(), global.output), ("orders", Format::Json));
    assert_eq!((global.endpoint, global.timeout.as_secs()), (vec!["127.0.0.1:1".to_owned()], 7));
    let global = parse_line("get -t other k -o text --timeout 1s -e a:1,b:2").global;
    assert_eq!((global.table.as_str(), global.output), ("other", Format::Text));
    assert_eq!((global.endpoint.len(), global.timeout.as_secs()), (2, 1));
}

async fn run(script: &str, keep_going: bool) -> Exit {
    let shell = Shell { keep_going };
    shell.run_script(&mut Script::new(script.as_bytes()), session()).await.unwrap()
}

#[tokio::test]
async fn a_script_ends_with_the_status_of_what_stopped_it() {
    assert_eq!(run("", false).await, Exit::Done);
    assert_eq!(run("# nothing\nversion\nhelp\nhelp table create\nput --help\n", false).await, Exit::Done);
    assert_eq!(run("version\nfly\nexit\n", false).await, Exit::Usage);
    assert_eq!(run("exit\nfly\n", false).await, Exit::Done);
    assert_eq!(run("put k 'v", false).await, Exit::Usage);
    assert_eq!(run("get k\n", false).await, Exit::Failed);
    // The gravest of all counts where it goes on.
    assert_eq!(run("fly\nget k\nfly\n", true).await, Exit::Failed);
    for refused in ["shell", "dev", "batch -", "import a.csv", "export a.csv", "use", "use a b", "help fly"] {
        assert_eq!(run(refused, false).await, Exit::Usage, "{refused}");
    }
}
