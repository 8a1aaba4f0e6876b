//! The ways in which programs are found, each of which works without the others, and how each stands.

use contract::doctor::{Fact, Standing};

/// What works here.
///
/// `missing` says why the kernel does not tell of connections; `asks_kernel` whether it can be asked
/// for sockets.
pub(crate) fn facts(missing: Option<&str>, asks_kernel: bool) -> Vec<Fact> {
    let fact = |name: &str, found: &str| Fact {
        name: name.to_owned(),
        standing: Standing::Good,
        found: found.to_owned(),
        remedy: String::new(),
    };
    let names = match missing {
        None => fact(
            "discovery_names",
            "server names, Host and CONNECT of all connections, and name answers, are read as they pass",
        ),
        Some(missing) => Fact {
            standing: Standing::Limited,
            remedy: "Programs are found by what listens and by open connections whose names this node's files and resolver give; short ones and those to shared addresses are missed.".to_owned(),
            ..fact("discovery_names", &format!("off: {missing}"))
        },
    };
    let sockets = if asks_kernel {
        fact("discovery_sockets", "open connections are asked of the kernel (sock_diag)")
    } else {
        Fact {
            standing: Standing::Limited,
            remedy: "Nothing is lost; each look takes longer. Run in the node's own root, and load the module tcp_diag.".to_owned(),
            ..fact("discovery_sockets", "open connections are read from /proc/net, because the kernel does not answer sock_diag")
        }
    };
    let servers = fact(
        "discovery_servers",
        "model servers are recognised by what they run and that they listen",
    );
    vec![names, sockets, servers]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losing_one_way_is_said_and_leaves_the_others() {
        let standing = |missing, asks_kernel| -> Vec<Standing> {
            facts(missing, asks_kernel).iter().map(|fact| fact.standing).collect()
        };
        let (good, limited) = (Standing::Good, Standing::Limited);
        assert_eq!(standing(None, true), [good, good, good]);
        assert_eq!(standing(Some("no BPF"), true), [limited, good, good]);
        assert_eq!(standing(None, false), [good, limited, good]);
        assert!(facts(Some("no BPF"), true)[0].found.contains("no BPF"));
    }
}
