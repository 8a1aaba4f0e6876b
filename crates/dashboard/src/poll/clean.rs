//! Everything in a report came from programs on the node: it is cut to size, and rid of what could
//! move a terminal's cursor.

use crate::error::ApiError;
use contract::before::{Before, Variable, Was};
use contract::poll::{Instance as Sender, Refused, Report};
use contract::step::Progress;
use contract::workload::{Instance, Observed};
use std::collections::BTreeMap;

/// Workloads of a node; those beyond are left out.
const MAX_WORKLOADS: usize = 10_000;
/// Steps that a report speaks of; those beyond come with the next.
const MAX_STEPS: usize = 200;
/// Longest key; a longer one is not cut, because it would then be another one.
const MAX_KEY_BYTES: usize = 1024;
/// Longest text of a report; what is longer is cut.
const MAX_TEXT_CHARS: usize = 1024;
/// Longest output or change of a step; what is longer is cut.
const MAX_OUTPUT_CHARS: usize = 16 << 10;
/// Longest list within a workload; what is beyond is left out.
const MAX_LIST: usize = 256;

pub(super) fn clean(report: &mut Report, left_out: &mut Vec<Refused>) -> Result<(), ApiError> {
    clean_instance(&mut report.instance)?;
    if let Some(doctor) = &mut report.doctor {
        doctor.truncate(MAX_LIST);
        for fact in doctor {
            [&mut fact.name, &mut fact.found, &mut fact.remedy].into_iter().for_each(clean_text);
        }
    }
    while report.lost.len() > MAX_LIST {
        report.lost.pop_last();
    }
    if let Some(applied) = &mut report.configuration {
        clean_text(&mut applied.hash);
        applied.error.iter_mut().for_each(clean_text);
    }
    report.steps.truncate(MAX_STEPS);
    report.steps.iter_mut().for_each(clean_step);
    if let Some(held) = &mut report.held {
        held.retain(|wish| is_key(&wish.key.0));
        held.truncate(MAX_WORKLOADS);
    }
    if let Some(delta) = &mut report.delta {
        delta.gone.truncate(MAX_WORKLOADS);
        clean_workloads(&mut delta.changed, left_out);
    }
    if let Some(workloads) = &mut report.workloads {
        clean_workloads(workloads, left_out);
    }
    Ok(())
}

/// Cuts what a sender says of itself.
pub(crate) fn clean_instance(instance: &mut Sender) -> Result<(), ApiError> {
    if !is_key(&instance.id) {
        let message = "cannot take a report without an instance id of 1 to 1024 printable bytes";
        return Err(ApiError::bad(message));
    }
    for text in [&mut instance.host_name, &mut instance.version, &mut instance.kernel] {
        clean_text(text);
    }
    if let Some(cluster) = &mut instance.cluster {
        clean_text(&mut cluster.id);
        cluster.name.iter_mut().for_each(clean_text);
    }
    instance.platforms.truncate(MAX_LIST);
    Ok(())
}

/// Leaves workloads out that are not the node's own: whatever it says of those of another node, it
/// is not believed.
pub(super) fn keep_own(report: &mut Report, left_out: &mut Vec<Refused>) {
    let instance = report.instance.id.clone();
    let cluster = report.instance.cluster.as_ref().map(|cluster| cluster.id.clone());
    let is_own = |key: &str| is_own(key, &instance, cluster.as_deref());
    let mut check = |workload: &Observed| {
        let own = is_own(&workload.key.0);
        if !own {
            let reason = "It is not a workload of this node.".to_owned();
            left_out.push(Refused { key: workload.key.0.clone(), reason });
        }
        own
    };
    if let Some(workloads) = &mut report.workloads {
        workloads.retain(&mut check);
    }
    if let Some(delta) = &mut report.delta {
        delta.changed.retain(&mut check);
        delta.gone.retain(|key| is_own(&key.0));
    }
    if let Some(held) = &mut report.held {
        held.retain(|wish| is_own(&wish.key.0));
    }
}

/// Whether a key begins with the scope of a node: its id, or the beginning of its cluster's id.
fn is_own(key: &str, instance: &str, cluster: Option<&str>) -> bool {
    let Some((scope, _)) = key.split_once('/') else { return false };
    let plain = |text: &str| text.replace('-', "");
    let of_cluster = |cluster: &str| {
        let short = scope.split_once('-').map(|(_, id)| plain(id)).unwrap_or_default();
        scope == cluster || (short.len() >= 8 && plain(cluster).starts_with(&short))
    };
    scope == instance || cluster.is_some_and(of_cluster)
}

fn clean_step(progress: &mut Progress) {
    clean_text(&mut progress.id);
    clean_text(&mut progress.reason);
    for text in [&mut progress.change, &mut progress.output] {
        text.retain(|c| !c.is_control() || c == '\n' || c == '\t');
        cut(text, MAX_OUTPUT_CHARS);
    }
}

fn clean_workloads(workloads: &mut Vec<Observed>, left_out: &mut Vec<Refused>) {
    let mut refuse = |workload: &Observed, reason: &str| {
        let mut key = workload.key.0.clone();
        clean_text(&mut key);
        left_out.push(Refused { key, reason: reason.to_owned() });
    };
    workloads.retain(|workload| {
        let good = is_key(&workload.key.0);
        if !good {
            refuse(workload, "A key has 1 to 1024 printable bytes.");
        }
        good
    });
    for beyond in workloads.iter().skip(MAX_WORKLOADS) {
        refuse(beyond, "A node has at most 10,000 workloads.");
    }
    workloads.truncate(MAX_WORKLOADS);
    workloads.iter_mut().for_each(clean_workload);
}

/// Cuts a workload to size.
pub(crate) fn clean_workload(workload: &mut Observed) {
    clean_text(&mut workload.name);
    clean_text(&mut workload.reason);
    if let Some(agent) = &mut workload.agent {
        clean_text(&mut agent.reason);
        agent.change.retain(|c| !c.is_control() || c == '\n' || c == '\t');
        cut(&mut agent.change, MAX_OUTPUT_CHARS);
        agent.before.iter_mut().for_each(clean_before);
        agent.processes.truncate(MAX_LIST);
        agent.processes.iter_mut().for_each(|process| clean_text(&mut process.detail));
    }
    workload.instances.truncate(MAX_LIST);
    workload.instances.iter_mut().for_each(clean_process);
    workload.evidence.truncate(MAX_LIST);
    for evidence in &mut workload.evidence {
        clean_text(&mut evidence.provider);
        clean_text(&mut evidence.seen);
    }
    workload.asked.truncate(MAX_LIST);
    workload.asked.iter_mut().for_each(|asked| clean_text(&mut asked.name));
    clean_attributes(&mut workload.attributes);
    workload.replaces.truncate(MAX_LIST);
}

/// What is cut here is not told to the node again, so it puts less back in order, and nothing wrong.
fn clean_before(before: &mut Before) {
    before.shown.retain(|c| !c.is_control() || c == '\n' || c == '\t');
    cut(&mut before.shown, MAX_OUTPUT_CHARS);
    match &mut before.was {
        Was::Unit { variables, .. } => {
            while variables.len() > MAX_LIST {
                variables.pop_last();
            }
        }
        Was::Containers { containers } => {
            containers.truncate(MAX_LIST);
            for container in containers {
                [&mut container.id, &mut container.image].into_iter().for_each(clean_text);
                container.environment.truncate(MAX_LIST);
                container.environment.iter_mut().for_each(clean_text);
                while container.variables.len() > MAX_LIST {
                    container.variables.pop_last();
                }
                for variable in container.variables.values_mut() {
                    if let Variable::Value(text) = variable {
                        cut(text, MAX_OUTPUT_CHARS);
                    }
                }
            }
        }
        Was::Template | Was::Unknown => {}
    }
}

fn clean_attributes(attributes: &mut BTreeMap<String, String>) {
    attributes.retain(|key, _| is_key(key) && !is_taken(key));
    while attributes.len() > MAX_LIST {
        attributes.pop_last();
    }
    attributes.values_mut().for_each(clean_text);
}

fn clean_process(instance: &mut Instance) {
    clean_text(&mut instance.executable);
    clean_text(&mut instance.user);
    instance.arguments.truncate(MAX_LIST);
    instance.arguments.iter_mut().for_each(clean_text);
    if let Some(runtime) = &mut instance.runtime {
        clean_text(&mut runtime.name);
        runtime.version.iter_mut().for_each(clean_text);
    }
    instance.tls.iter_mut().for_each(clean_text);
    clean_attributes(&mut instance.attributes);
}

/// Whether a text may name something.
pub(crate) fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= MAX_KEY_BYTES && !key.chars().any(char::is_control)
}

/// A further attribute must not appear twice in the row of a service or of an instance.
fn is_taken(key: &str) -> bool {
    use contract::attribute;
    let is_ours = key.starts_with("sonde.") || key.starts_with("process.");
    let is_of_the_place = [attribute::WORKLOAD_KIND, attribute::WORKLOAD_NAME].contains(&key);
    (is_ours && !is_of_the_place) || [attribute::SERVICE_NAME, attribute::HOST_NAME].contains(&key)
}

/// Takes out what moves a cursor, and cuts what is too long.
pub(crate) fn clean_text(text: &mut String) {
    if text.chars().any(char::is_control) {
        text.retain(|c| !c.is_control());
    }
    cut(text, MAX_TEXT_CHARS);
}

fn cut(text: &mut String, chars: usize) {
    if let Some((end, _)) = text.char_indices().nth(chars) {
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::{clean_attributes, is_own};
    use std::collections::BTreeMap;

    #[test]
    fn a_key_is_a_nodes_own_by_its_scope_alone() {
        let cluster = Some("3f2b8c1e-aaaa-bbbb-cccc-000000000000");
        assert!(is_own("host-1/docker:a", "host-1", None));
        assert!(is_own("cluster-3f2b8c1eaaaa/kubernetes:a", "host-1", cluster));
        for key in ["host-2/docker:a", "host-1", "k", "host-12/x", "/host-1/", "cluster-3f2b/x"] {
            assert!(!is_own(key, "host-1", cluster), "{key}");
        }
        assert!(!is_own("cluster-3f2b8c1eaaaa/kubernetes:a", "host-1", None));
    }

    #[test]
    fn attributes_of_the_place_pass_and_none_stands_twice_or_breaks_a_terminal() {
        let given = [
            ("k8s.pod.name", "web-1\u{1b}[31m"),
            ("sonde.workload.kind", "Deployment"),
            ("sonde.workload.name", "web"),
            ("sonde.workload.key", "another"),
            ("process.pid", "1"),
            ("process.executable.path", "/bin/false"),
            ("service.name", "another"),
            ("k8s.pod.label.a\nb", "x"),
            ("", "x"),
        ];
        let mut attributes: BTreeMap<String, String> =
            given.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        clean_attributes(&mut attributes);
        let kept: Vec<(&str, &str)> =
            attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            kept,
            [
                ("k8s.pod.name", "web-1[31m"),
                ("sonde.workload.kind", "Deployment"),
                ("sonde.workload.name", "web"),
            ]
        );
    }
}
