//! Programs that serve models themselves: recognised by what they are and that they listen, never by
//! a port alone. A value without I/O.

use contract::workload::Instance;
use std::net::SocketAddr;

/// A kind of model server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Name to show as the provider.
    pub(crate) provider: &'static str,
    /// Port that it listens on unless it is told another.
    pub(crate) port: u16,
    /// Names of its executable or script.
    names: &'static [&'static str],
    /// Python modules that it is run by, with everything below them.
    modules: &'static [&'static str],
    /// A word that must be among the arguments: the same program has other uses without it.
    word: Option<&'static str>,
    /// Whether its name is a common word, so that the port has to agree.
    is_common: bool,
}

const fn server(
    provider: &'static str,
    port: u16,
    names: &'static [&'static str],
    modules: &'static [&'static str],
) -> Server {
    Server { provider, port, names, modules, word: None, is_common: false }
}

/// Model servers, as their own documentation says that they are started (November 2026).
const SERVERS: &[Server] = &[
    Server { word: Some("serve"), ..server("ollama", 11_434, &["ollama"], &[]) },
    Server { word: Some("serve"), ..server("vllm", 8_000, &["vllm"], &[]) },
    server("vllm", 8_000, &[], &["vllm.entrypoints"]),
    server("llama_cpp", 8_080, &["llama-server"], &["llama_cpp.server"]),
    Server { word: Some("-m"), is_common: true, ..server("llama_cpp", 8_080, &["server"], &[]) },
    server("llamafile", 8_080, &["llamafile", "whisperfile"], &[]),
    server("litellm", 4_000, &["litellm"], &["litellm.proxy", "litellm"]),
    server("lm_studio", 1_234, &["lm-studio", "LM Studio", "LM-Studio", "llmster"], &[]),
    server(
        "hugging_face.tgi",
        3_000,
        &["text-generation-launcher", "text-generation-router", "text-generation-server"],
        &["text_generation_server"],
    ),
    server("hugging_face.tei", 3_000, &["text-embeddings-router"], &[]),
    server("sglang", 30_000, &["sglang"], &["sglang.launch_server", "sglang.srt"]),
    server("localai", 8_080, &["local-ai", "localai"], &[]),
    server("koboldcpp", 5_001, &["koboldcpp", "koboldcpp.py"], &[]),
    server("mlx_lm", 8_080, &["mlx_lm.server"], &["mlx_lm.server"]),
    server("xinference", 9_997, &["xinference", "xinference-local"], &["xinference"]),
    server("lmdeploy", 23_333, &["lmdeploy"], &["lmdeploy.serve"]),
    server("tensorrt_llm", 8_000, &["trtllm-serve"], &[]),
    server("mistralrs", 1_234, &["mistralrs-server"], &[]),
    server("jan", 1_337, &["cortex-server"], &["jan.server"]),
];

/// Interpreters and launchers, whose arguments say what they run.
const RUNNERS: &[&str] = &["python", "pypy", "uvicorn", "gunicorn", "hypercorn", "node", "uv"];

/// Arguments that are looked at: what a program is stands among the first.
const MAX_ARGUMENTS: usize = 16;

/// A cheap first look, by the path of the executable alone: whether it is worth a second.
pub(crate) fn may_serve(executable: &str) -> bool {
    let name = base(executable);
    RUNNERS.iter().any(|runner| name.starts_with(runner))
        || SERVERS.iter().any(|server| server.names.contains(&name))
        || name.ends_with(".llamafile")
}

/// The server that a process looks like.
pub(crate) fn shape(instance: &Instance) -> Option<&'static Server> {
    let arguments: Vec<&str> =
        instance.arguments.iter().take(MAX_ARGUMENTS).map(String::as_str).collect();
    let executable = base(&instance.executable);
    let is_runner = RUNNERS.iter().any(|runner| executable.starts_with(runner));
    let zeroth = arguments.first().map_or(executable, |first| base(first));
    // What a runner runs: its script, or the module after -m; `package:app` of uvicorn counts too.
    let script = is_runner.then(|| script(&arguments)).flatten();
    let is_named = |server: &Server| {
        let names = [Some(executable), Some(zeroth), script.map(base)];
        names.into_iter().flatten().any(|name| {
            server.names.contains(&name)
                || (server.provider == "llamafile" && name.ends_with(".llamafile"))
        })
    };
    let is_module = |server: &Server| {
        let of = |module: &&str, script: &str| {
            script
                .strip_prefix(*module)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ':']))
        };
        script.is_some_and(|script| server.modules.iter().any(|module| of(module, script)))
    };
    let has_word = |server: &Server| server.word.is_none_or(|word| arguments.contains(&word));
    SERVERS.iter().find(|server| (is_named(server) || is_module(server)) && has_word(server))
}

/// Where a server listens, when these sockets say that it does: its usual place before others.
pub(crate) fn place(server: &Server, listening: &[SocketAddr]) -> Option<SocketAddr> {
    let usual = listening.iter().find(|address| address.port() == server.port);
    let any = listening.first().filter(|_| !server.is_common);
    usual.or(any).copied()
}

/// The first argument that is no option of a runner, nor another runner: a script, or a module.
fn script<'a>(arguments: &[&'a str]) -> Option<&'a str> {
    let is_runner = |name: &str| RUNNERS.iter().any(|runner| base(name) == *runner);
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        match *argument {
            "-W" | "-X" => drop(rest.next()),
            "run" => {}
            option if option.starts_with('-') => {}
            runner if is_runner(runner) => {}
            script => return Some(script),
        }
    }
    None
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(executable: &str, arguments: &[&str]) -> Option<&'static str> {
        let instance = Instance {
            executable: executable.to_owned(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            ..Instance::default()
        };
        let shape = shape(&instance);
        assert!(shape.is_none() || may_serve(executable), "{executable} would not be looked at");
        shape.map(|server| server.provider)
    }

    const PYTHON: &str = "/usr/bin/python3.11";

    #[test]
    fn model_servers_are_known_by_what_they_run() {
        for (executable, arguments, provider) in [
            ("/usr/local/bin/ollama", &["ollama", "serve"][..], Some("ollama")),
            ("/usr/local/bin/ollama", &["ollama", "run", "llama3"], None),
            (PYTHON, &["python3", "-m", "vllm.entrypoints.openai.api_server"], Some("vllm")),
            (PYTHON, &["python", "/venv/bin/vllm", "serve", "m"], Some("vllm")),
            (PYTHON, &["python", "/venv/bin/vllm", "chat"], None),
            ("/opt/llama-server", &["llama-server", "-m", "x.gguf"], Some("llama_cpp")),
            (PYTHON, &["python", "-u", "-m", "llama_cpp.server"], Some("llama_cpp")),
            (PYTHON, &["python", "/venv/bin/litellm", "--port", "4000"], Some("litellm")),
            (
                PYTHON,
                &["python", "-m", "uvicorn", "litellm.proxy.proxy_server:app"],
                Some("litellm"),
            ),
            ("/venv/bin/uvicorn", &["uvicorn", "litellm.proxy.proxy_server:app"], Some("litellm")),
            ("/opt/LM Studio/LM Studio", &["/opt/LM Studio/LM Studio"], Some("lm_studio")),
            ("/usr/bin/text-generation-router", &["x"], Some("hugging_face.tgi")),
            ("/opt/mistral.llamafile", &["./mistral.llamafile"], Some("llamafile")),
            (PYTHON, &["python", "-m", "litellm_client"], None),
            (PYTHON, &["python", "ollama.py", "serve"], None),
            ("/usr/sbin/nginx", &["nginx", "-g", "daemon off;"], None),
            (PYTHON, &["python", "-m", "http.server", "11434"], None),
        ] {
            assert_eq!(of(executable, arguments), provider, "{arguments:?}");
        }
    }

    #[test]
    fn a_server_has_to_listen_and_one_with_a_common_name_on_its_own_port() {
        let at = |server: &Server, ports: &[u16]| {
            let listening: Vec<SocketAddr> =
                ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect();
            place(server, &listening).map(|place| place.port())
        };
        let named =
            |name: &str| SERVERS.iter().find(|server| server.names.contains(&name)).unwrap();
        let (ollama, common) = (named("ollama"), named("server"));
        assert_eq!((at(ollama, &[]), at(ollama, &[9_000])), (None, Some(9_000)));
        assert_eq!(at(ollama, &[9_000, 11_434]), Some(11_434));
        assert_eq!((at(common, &[9_000]), at(common, &[8_080])), (None, Some(8_080)));
    }
}
