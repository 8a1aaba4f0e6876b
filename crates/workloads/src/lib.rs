//! Finds and names the programs on this node.
//!
//! Programs are read from `/proc` and a few files under `/etc`, `/run` and `/var/lib`, below a root
//! that is a parameter, so that a controller in a container can look at its host and a test at a
//! tree of its own. Engines of containers and the API server of a cluster are asked on one thread
//! ([`Node::connect`]); looking up a program reads what they said from memory and never waits for
//! them. Nothing is ever changed, and no child is started.
//!
//! Programs are hostile: names, arguments and environments are cut at limits, and stripped of
//! control characters and of anything that looks like a secret before they leave this crate.
//!
//! Start with [`Node`]: it reads one [`Program`] after the other. `identity` says which of its
//! properties make its key, and which its name.
#![forbid(unsafe_code)]

mod arguments;
mod binary;
mod cgroup;
mod clients;
mod declared;
mod identity;
mod inside;
mod node;
mod platform;
mod process;
mod runtime;
mod script;
mod sockets;
mod tls;

pub use clients::{Access, Clients, Cluster};
pub use node::{Host, Node};
pub use process::{Program, Remains};
pub use sockets::{Socket, Sockets, State, hosts_file};
