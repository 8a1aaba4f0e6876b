//! Why a program is discovered, or is not: what the loop knows, and what can be read of the process
//! now, put in steps. What decides is elsewhere; here it is told.

use crate::given::Given;
use crate::programs::Programs;
use crate::registry::{Registry, Workload};
use crate::rules::{Decision, Rulebook, Subject};
use crate::seen::{Heard, Seen};
use crate::servers;
use contract::capture::Level;
use contract::doctor::{Fact, Standing};
use contract::row::{About, Explained, Explanation, Finding, Ruling, Rulings, Step, Time};
use contract::rules::Rules;
use contract::workload::{Agent, By, Extent, Key};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use workloads::{Program, Sockets, State};

/// Sockets that are listed; a proxy has thousands.
const MAX_SOCKETS: usize = 24;

/// A question to the event loop.
pub(crate) struct Question {
    /// A process id, a name or a key; empty for all.
    pub(crate) about: String,
    pub(crate) reply: SyncSender<Account>,
}

/// What the event loop knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account {
    pub(crate) workloads: Vec<Known>,
    pub(crate) book: Rulebook,
    pub(crate) given: Given,
    pub(crate) desired: BTreeMap<Key, Level>,
    pub(crate) agents: BTreeMap<Key, Agent>,
    pub(crate) own_rules: Rules,
    pub(crate) their_rules: Rules,
}

/// A workload that is known.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) key: Key,
    pub(crate) workload: Workload,
    /// Whether a rule leaves it out.
    pub(crate) is_hidden: bool,
}

/// What can be asked beside the loop.
pub(crate) struct Sources<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) seen: &'a Seen,
    pub(crate) sockets: &'a Sockets,
    /// Names that an address is known by.
    pub(crate) names_of: &'a dyn Fn(Vec<IpAddr>) -> Vec<Vec<String>>,
    pub(crate) doctor: &'a [Fact],
    pub(crate) started_unix_nanos: u64,
}

impl Question {
    /// Answers; whoever asked may be gone.
    pub(crate) fn answer(self, account: Account) {
        drop(self.reply.try_send(account));
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Question").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Account {
    /// All that is known of a process, a name or a key; of everything, when it is empty.
    pub(crate) fn of(about: &str, registry: &Registry, book: &Rulebook, given: &Given) -> Self {
        let pid = about.parse::<u32>().ok();
        let is_meant = |key: &Key, workload: &Workload| {
            let has_process = |pid| {
                workload.instances.contains_key(&pid)
                    || workload.ended.iter().any(|ended| ended.pid == pid)
            };
            about.is_empty()
                || key.0 == about
                || workload.name == about
                || given.name(key, &workload.name) == about
                || pid.is_some_and(has_process)
        };
        let of = |workloads: &BTreeMap<Key, Workload>, is_hidden: bool| -> Vec<Known> {
            let meant = workloads.iter().filter(|(key, workload)| is_meant(key, workload));
            let known = |(key, workload): (&Key, &Workload)| Known {
                key: key.clone(),
                workload: workload.clone(),
                is_hidden,
            };
            meant.map(known).collect()
        };
        let mut workloads = of(registry.workloads(), false);
        workloads.extend(of(registry.hidden(), true));
        Self { workloads, book: book.clone(), given: given.clone(), ..Self::default() }
    }

    /// What these rules would say about what is known, and about a process that is not.
    pub(crate) fn rulings(&self, about: &str, book: &Rulebook, programs: &Programs) -> Rulings {
        let mut rulings = Vec::new();
        for Known { key, workload, .. } in &self.workloads {
            let name = self.given.name(key, &workload.name);
            let mut rule = |subject: Subject, pid: Option<u32>| {
                let Decision { counts, rule } =
                    book.decide(&Subject { name: name.clone(), ..subject });
                let key = key.0.clone();
                rulings.push(Ruling { name: name.clone(), key, pid, counts, rule });
            };
            if workload.instances.is_empty() {
                rule(workload.subject(key), None);
            }
            for (pid, running) in &workload.instances {
                rule(Subject::of(&running.program, &name), Some(*pid));
            }
        }
        if rulings.is_empty()
            && let Some(program) = about.parse().ok().and_then(|pid| programs.read(pid))
        {
            let name = self.given.name(&program.key, &program.name);
            let Decision { counts, rule } = book.decide(&Subject::of(&program, &name));
            let (key, pid) = (program.key.0.clone(), Some(program.instance.pid));
            rulings.push(Ruling { name, key, pid, counts, rule });
        }
        Rulings { programs: rulings, refused: book.refused.clone() }
    }

    /// The explanation.
    pub(crate) fn explain(&self, about: &str, sources: &Sources<'_>) -> Explanation {
        let pid = about.parse::<u32>().ok();
        let mut programs: Vec<Explained> =
            self.workloads.iter().map(|known| self.known(known, pid, sources)).collect();
        if programs.is_empty()
            && let Some(pid) = pid
        {
            programs.extend(self.unknown(pid, sources));
        }
        Explanation { asked: about.to_owned(), programs }
    }

    /// A workload that is in the registry.
    fn known(&self, known: &Known, pid: Option<u32>, sources: &Sources<'_>) -> Explained {
        let Known { key, workload, is_hidden } = known;
        let running = pid
            .and_then(|pid| workload.instances.get(&pid))
            .or_else(|| workload.instances.values().next());
        // What is left out is not followed; its process may run all the same.
        let program = running.map(|running| Arc::clone(&running.program)).or_else(|| {
            pid.and_then(|pid| sources.programs.read(pid)).filter(|program| program.key == *key)
        });
        let name = self.given.name(key, &workload.name);
        let ended = workload.ended.back().map(|ended| ended.pid);
        let looked_at = program.as_ref().map(|program| program.instance.pid).or(pid).or(ended);
        let heard = looked_at.map(|pid| heard(sources.seen, pid)).unwrap_or_default();
        let mut steps = Vec::new();
        if let Some(program) = &program {
            steps.push(process(program));
            steps.push(identity(program, &name));
        }
        steps.push(names(&heard));
        if let Some(program) = &program {
            steps.push(open_sockets(program.instance.pid, sources));
            steps.extend(serves(program));
        }
        steps.extend(relay(&heard));
        let subject = match &program {
            Some(program) => Subject::of(program, &name),
            None => Subject { name: name.clone(), ..workload.subject(key) },
        };
        let (decision, step) = self.rules(&subject);
        steps.push(step);
        steps.extend(program.as_deref().map(tls));
        steps.push(registry(workload));
        steps.extend(self.agents.get(key).map(sdk));
        steps.extend(tiers(sources.doctor));
        let verdict = match (is_hidden, &decision.rule) {
            (true, Some(rule)) => format!("Left out by a rule: {rule}."),
            (true, None) => {
                "Left out by a rule that no longer holds; it comes back with its next connection."
                    .to_owned()
            }
            (false, _) => discovered(workload),
        };
        Explained {
            name,
            key: key.0.clone(),
            pid: program.map(|program| program.instance.pid),
            discovered: !is_hidden,
            desired: self.desired.get(key).copied().unwrap_or_default(),
            verdict,
            steps,
        }
    }

    /// A process that is of no workload.
    fn unknown(&self, pid: u32, sources: &Sources<'_>) -> Option<Explained> {
        let heard = heard(sources.seen, pid);
        let Some(program) = sources.programs.read(pid) else {
            return (!heard.is_empty()).then(|| self.ended(pid, &heard, sources.doctor));
        };
        let name = self.given.name(&program.key, &program.name);
        let (decision, rules) = self.rules(&Subject::of(&program, &name));
        let mut steps = vec![process(&program), identity(&program, &name), names(&heard)];
        steps.push(open_sockets(pid, sources));
        steps.extend(serves(&program));
        steps.extend(relay(&heard));
        steps.push(rules);
        steps.push(tls(&program));
        steps.extend(tiers(sources.doctor));
        let asked = |heard: &&Heard| heard.provider.is_some();
        let verdict = if !decision.counts {
            format!("Left out by a rule: {}.", decision.rule.unwrap_or_default())
        } else if let Some(heard) = heard.iter().find(|heard| asked(heard) && heard.but.is_some()) {
            format!("Not a program of its own: it {}.", heard.but.clone().unwrap_or_default())
        } else if heard.is_empty() {
            format!(
                "Not discovered: no name that it asked for was seen since Sonde was started at {}.",
                Time(sources.started_unix_nanos)
            )
        } else {
            "Not discovered: none of the names that it asked for is a known provider; add one with a provider rule if it is.".to_owned()
        };
        Some(Explained {
            name,
            key: program.key.0.clone(),
            pid: Some(pid),
            discovered: false,
            desired: Level::Off,
            verdict,
            steps,
        })
    }

    /// A process that ended, of which names were heard.
    fn ended(&self, pid: u32, heard: &[Heard], doctor: &[Fact]) -> Explained {
        let mut steps = vec![names(heard)];
        steps.extend(relay(heard));
        steps.extend(tiers(doctor));
        Explained {
            name: String::new(),
            key: String::new(),
            pid: None,
            discovered: false,
            desired: Level::Off,
            verdict: format!("Process {pid} has ended; this is what it asked for."),
            steps,
        }
    }

    fn rules(&self, subject: &Subject) -> (Decision, Step) {
        let decision = self.book.decide(subject);
        let (finding, text) = match (&decision.rule, decision.counts) {
            (None, _) => (Finding::Neither, "no rule of people says anything about it".to_owned()),
            (Some(rule), true) => (Finding::For, format!("included by {rule}")),
            (Some(rule), false) => (Finding::Against, format!("left out: {rule}")),
        };
        let details =
            self.book.refused.iter().map(|mistake| format!("cannot be used: {mistake}")).collect();
        let step = Step { about: About::Rules, finding, text, details };
        (decision, step)
    }
}

fn discovered(workload: &Workload) -> String {
    let Some(best) = workload.evidence.first() else { return "Discovered.".to_owned() };
    let providers: Vec<&str> = workload.providers.keys().map(String::as_str).collect();
    let is = if workload.instances.is_empty() { "Known, and stopped" } else { "Discovered" };
    let how = match best.by {
        By::Call => format!("a call of it to {} was read", best.seen),
        By::Sni => format!("it asked for {} by TLS server name", best.seen),
        By::Host => format!("it sent a request to {} in plain text", best.seen),
        By::Connect => format!("it asked a proxy to connect it to {}", best.seen),
        By::Dns => format!("it connected to {}, as its resolver named it", best.seen),
        By::Listen => format!("it listens on {} like a model server", best.seen),
        By::Address => format!("it is connected to {}", best.seen),
    };
    format!("{is} ({}): {how}.", providers.join(", "))
}

fn heard(seen: &Seen, pid: u32) -> Vec<Heard> {
    // The newest process with this id is the one that is meant.
    seen.of(pid).pop().map(|(_, heard)| heard).unwrap_or_default()
}

fn process(program: &Program) -> Step {
    let instance = &program.instance;
    let runtime = instance.runtime.as_ref().map_or_else(
        || "no language runtime was recognised".to_owned(),
        |runtime| format!("{} {}", runtime.name, runtime.version.as_deref().unwrap_or_default()),
    );
    let details = vec![
        format!("executable {}", instance.executable),
        format!("arguments {}", instance.arguments.join(" ")),
        format!("user {}, started by process {}", instance.user, instance.parent),
        format!("directory {}", instance.directory),
        format!("runtime {}", runtime.trim_end()),
    ];
    Step {
        about: About::Process,
        finding: Finding::Neither,
        text: format!("process {} runs since {}", instance.pid, Time(instance.started_unix_nanos)),
        details,
    }
}

fn identity(program: &Program, name: &str) -> Step {
    let platform = program.key.0.split_once('/').map_or("", |(_, place)| place);
    let mut details = vec![format!("key {}", program.key.0)];
    if name == program.name {
        details.push(format!("name {name}, from its platform, its environment or what it runs"));
    } else {
        details.push(format!("name {name}, given on the dashboard; its own is {}", program.name));
    }
    let attributes = program.attributes.iter().chain(&program.instance.attributes);
    details.extend(attributes.map(|(name, value)| format!("{name} {value}")));
    let (kind, place) = platform.split_once(':').unwrap_or((platform, ""));
    Step {
        about: About::Identity,
        finding: Finding::Neither,
        text: match kind {
            "process" => {
                "nothing manages it: its key is made of executable and arguments".to_owned()
            }
            kind => format!("its key is its place on {kind}: {place}"),
        },
        details,
    }
}

fn names(heard: &[Heard]) -> Step {
    let counts = heard.iter().filter(|it| it.provider.is_some() && it.but.is_none()).count();
    let detail = |heard: &Heard| {
        let by = word(heard.by);
        let provider = heard.provider.as_deref().unwrap_or("no known provider");
        let hidden = if heard.is_hidden { ", with ECH: it may hide another name" } else { "" };
        let but = heard.but.as_deref().map(|but| format!(", but it {but}")).unwrap_or_default();
        let (times, last) = (heard.count, Time(heard.last_unix_nanos));
        format!(
            "{} by {by} at {} ({provider}), {times} times, last {last}{hidden}{but}",
            heard.name, heard.peer
        )
    };
    Step {
        about: About::Names,
        finding: if counts > 0 { Finding::For } else { Finding::Against },
        text: match (heard.len(), counts) {
            (0, _) => "no name that it asked for was seen".to_owned(),
            (all, 0) => format!("of {all} names that it asked for none counts"),
            (all, counts) => {
                format!("of {all} names that it asked for {counts} belong to providers")
            }
        },
        details: heard.iter().map(detail).collect(),
    }
}

fn word(by: By) -> &'static str {
    match by {
        By::Call => "a call",
        By::Sni => "TLS server name",
        By::Host => "Host header",
        By::Connect => "CONNECT",
        By::Dns => "DNS answer",
        By::Listen => "listening",
        By::Address => "address",
    }
}

fn open_sockets(pid: u32, sources: &Sources<'_>) -> Step {
    let sockets = sources.sockets.of_process(pid);
    let shown: Vec<_> = sockets.iter().take(MAX_SOCKETS).collect();
    let known = (sources.names_of)(shown.iter().map(|socket| socket.peer.ip()).collect());
    let mut details = Vec::new();
    for (index, socket) in shown.iter().enumerate() {
        let names = known.get(index).filter(|names| !names.is_empty());
        details.push(match socket.state {
            State::Listening => format!("listens on {}", socket.local),
            State::Established => match names {
                Some(names) => format!("connected to {} ({})", socket.peer, names.join(", ")),
                None => format!("connected to {}, whose name is not known", socket.peer),
            },
        });
    }
    let listening = sockets.iter().filter(|socket| socket.state == State::Listening).count();
    Step {
        about: About::Sockets,
        finding: Finding::Neither,
        text: format!(
            "{} TCP connections are open, and it listens on {listening}",
            sockets.len() - listening
        ),
        details,
    }
}

fn serves(program: &Program) -> Option<Step> {
    let server = servers::shape(&program.instance)?;
    Some(Step {
        about: About::Serves,
        finding: Finding::For,
        text: format!(
            "it looks like a model server ({}); it counts while it listens, mostly on port {}",
            server.provider, server.port
        ),
        details: Vec::new(),
    })
}

fn relay(heard: &[Heard]) -> Option<Step> {
    let passes_on = heard.iter().filter(|heard| heard.by != By::Address);
    let details: Vec<String> = passes_on
        .filter_map(|heard| Some(format!("{}: it {}", heard.name, heard.but.as_ref()?)))
        .collect();
    (!details.is_empty()).then(|| Step {
        about: About::Relay,
        finding: Finding::Against,
        text: "it passes on what others ask, who are named instead".to_owned(),
        details,
    })
}

fn tls(program: &Program) -> Step {
    let instance = &program.instance;
    let library = instance.tls.as_deref().unwrap_or("no TLS library was found in it");
    let details = instance.coverage.as_ref().map(|coverage| {
        let extent = match coverage.extent {
            Extent::Covered => "all of its TLS traffic can be read",
            Extent::Partly => "some of its TLS traffic can be read",
            Extent::NotYet => "none of its TLS traffic can be read yet",
        };
        format!("{extent} {}", coverage.reason).trim_end().to_owned()
    });
    Step {
        about: About::Tls,
        finding: Finding::Neither,
        text: library.to_owned(),
        details: details.into_iter().collect(),
    }
}

fn registry(workload: &Workload) -> Step {
    let span = |(name, span): (&String, &crate::registry::Span)| {
        format!("{name}, from {} to {}", Time(span.first_unix_nanos), Time(span.last_unix_nanos))
    };
    let mut details: Vec<String> =
        workload.providers.iter().map(|it| format!("provider {}", span(it))).collect();
    details.extend(workload.models.iter().map(|it| format!("model {}", span(it))));
    details.extend(workload.evidence.iter().map(|evidence| {
        let confidence = evidence.by.confidence().word();
        let (by, seen) = (word(evidence.by), &evidence.seen);
        format!("{confidence}: {seen} by {by}, last {}", Time(evidence.last_seen_unix_nanos))
    }));
    details.extend(workload.ended.iter().map(|ended| {
        format!("process {} ended, noticed {}", ended.pid, Time(ended.ended_unix_nanos))
    }));
    Step {
        about: About::Registry,
        finding: Finding::For,
        text: format!(
            "known since {}, {} processes run",
            Time(workload.first_seen_unix_nanos),
            workload.instances.len()
        ),
        details,
    }
}

/// What was changed for an SDK, and what was there before.
fn sdk(agent: &Agent) -> Step {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let before = agent.before.as_ref().map(|before| lines(&before.shown)).unwrap_or_default();
    let before = before.into_iter().map(|line| format!("before: {line}"));
    let details = before.chain(lines(&agent.change)).collect();
    Step { about: About::Sdk, finding: Finding::Neither, text: agent.reason.clone(), details }
}

fn tiers(doctor: &[Fact]) -> Option<Step> {
    let off = doctor
        .iter()
        .filter(|fact| fact.name.starts_with("discovery_") && fact.standing != Standing::Good);
    let details: Vec<String> =
        off.map(|fact| format!("{}: {} {}", fact.name, fact.found, fact.remedy)).collect();
    (!details.is_empty()).then(|| Step {
        about: About::Tiers,
        finding: Finding::Against,
        text: "some ways to find programs are off here".to_owned(),
        details,
    })
}
