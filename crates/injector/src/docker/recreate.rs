//! Puts another container in the place of one, and that one back: in steps, each of which may be
//! taken twice, because what the engine says shows how far they came.
//!
//! The new one is made beside the old one and compared with it before that is stopped. While it is
//! watched the old one stays, stopped, with a name aside. All that is ours has the old one's id as a
//! label. What runs is never called something else: its workload goes by that name.

use super::Part;
use super::engine::{Engine, Failure};
use super::preflight::{name, named, unwritten, written};
use super::specification::{LABEL, creation, lost, without_agent};
use crate::hands::Undone;
use crate::plan::Refusal;
use serde_json::{Value, json};

/// What a name ends with that is made beside another.
const NEW: &str = ".sonde-new";
/// That is there only to be compared.
const TRIAL: &str = ".sonde-trial";
/// That another one is in the place of.
const OLD: &str = ".sonde-old";
/// That is to take its old place again, and to run there.
const BACK: &str = ".sonde-back";
/// That is to take its old place again, where somebody had stopped what was there.
const IDLE: &str = ".sonde-idle";
/// That stays for what it wrote.
const KEPT: &str = ".sonde-kept";

/// Whether a container has been moved aside, by its name.
pub(super) fn is_aside(name: &str) -> bool {
    [NEW, OLD, BACK, IDLE].iter().any(|end| name.ends_with(end))
}

/// The name of the place that a container has, or was moved aside from.
pub(super) fn place(name: &str) -> &str {
    let ends = [NEW, OLD, BACK, IDLE];
    ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

/// The container that is ours, in the place of another or on the way there.
pub(super) async fn ours(engine: &Engine, part: &Part) -> Result<Option<Value>, Failure> {
    for container in engine.list(Some(&format!("{LABEL}={}", part.id))).await? {
        let id = container["Id"].as_str().unwrap_or_default();
        let Some(inspect) = engine.find(id).await? else { continue };
        let name = name(&inspect);
        if !name.ends_with(TRIAL) && !name.contains(KEPT) {
            return Ok(Some(inspect));
        }
    }
    Ok(None)
}

/// Makes another container from the same, compares the two, and removes it again.
pub(super) async fn rehearse(engine: &Engine, part: &Part) -> Result<(), Refusal> {
    let failed = |failure: Failure| Refusal::not_now("no_answer", cannot("try", part, &failure));
    // What one that was killed left behind goes too.
    for container in engine.list(Some(LABEL)).await.map_err(failed)? {
        let names = container["Names"].as_array().cloned().unwrap_or_default();
        let mut names = names.iter().filter_map(Value::as_str);
        if names.any(|name| name.ends_with(TRIAL)) {
            engine.remove(&id(&container)).await.map_err(failed)?;
        }
    }
    let made = create(engine, part, &part.wished(), TRIAL).await?;
    engine.remove(&id(&made)).await.map_err(failed)
}

/// Puts the new one in the place of the old one.
pub(super) async fn make(engine: &Engine, part: &Part) -> Result<(), String> {
    let failed = |failure: Failure| cannot("make", part, &failure);
    let new = match ours(engine, part).await.map_err(failed)? {
        Some(new) => new,
        None => {
            let made = create(engine, part, &part.wished(), NEW).await;
            made.map_err(|refusal| refusal.reason)?
        }
    };
    let old = engine.inspect(&part.id).await.map_err(failed)?;
    engine.stop(&old).await.map_err(failed)?;
    // It may have written since it was looked at, and no more from here on.
    let changes = engine.changes(&part.id).await.map_err(failed)?;
    unwritten(&changes, &old).map_err(|refusal| refusal.reason)?;
    engine.rename_to(&old, &format!("{}{OLD}", part.name)).await.map_err(failed)?;
    rests(engine, &old).await.map_err(failed)?;
    engine.rename_to(&new, &part.name).await.map_err(failed)?;
    match engine.start(&id(&new)).await {
        Ok(()) => Ok(()),
        Err(failure) => {
            Err(format!("{}{}", cannot("start", part, &failure), engine.log(&new).await))
        }
    }
}

/// Removes the old one: the new one is well. Volumes stay, the new one has them all.
pub(super) async fn settle(engine: &Engine, part: &Part) -> Result<(), String> {
    let failed = |failure: Failure| cannot("remove the old one of", part, &failure);
    let ours = ours(engine, part).await.map_err(failed)?;
    if ours.is_some_and(|ours| name(&ours) == part.name) {
        engine.remove(&part.id).await.map_err(failed)?;
    }
    Ok(())
}

/// Puts all back as it was; with `revive` also what ended with the change.
pub(super) async fn undo(engine: &Engine, part: &Part, revive: bool) -> Result<Undone, String> {
    let undone = async {
        let ours = ours(engine, part).await?;
        match (engine.find(&part.id).await?, ours) {
            (Some(old), ours) => put_back(engine, part, (&old, ours), revive).await,
            (None, Some(ours)) => remake(engine, part, &ours, revive).await,
            (None, None) => finish(engine, part).await,
        }
    };
    undone.await.map_err(|failure: Failure| cannot("put back", part, &failure))
}

/// The old one is still there: it takes its place again.
async fn put_back(
    engine: &Engine,
    part: &Part,
    (old, ours): (&Value, Option<Value>),
    revive: bool,
) -> Result<Undone, Failure> {
    let is_on_its_way = name(old).ends_with(BACK);
    let starts = match &ours {
        // Somebody stopped it, or not: it is up, never was, or came to its end by itself.
        Some(ours) => is_on_its_way || revive || name(ours) != part.name || is_up(ours),
        // Somebody removed it, and knows of no other.
        None => is_on_its_way || (revive && name(old) != part.name),
    };
    if let Some(ours) = ours.as_ref().filter(|ours| name(ours) == part.name) {
        if starts {
            engine.rename_to(old, &format!("{}{BACK}", part.name)).await?;
        }
        engine.stop(ours).await?;
        engine.rename_to(ours, &format!("{}{NEW}", part.name)).await?;
    }
    if let Some(other) = engine.find(&part.name).await?.filter(|other| id(other) != part.id) {
        tidy(engine, part, ours.as_ref()).await?;
        if name(old).ends_with(OLD) {
            engine.remove(&part.id).await?;
        }
        let kept = format!("container {} was made anew by somebody else", name(&other));
        return Ok(Undone::Ours(kept));
    }
    engine.rename_to(old, &part.name).await?;
    if restarts(&part.before) {
        let policy = &part.before["HostConfig"]["RestartPolicy"];
        engine.restart_policy(&part.id, policy).await?;
    }
    if starts {
        engine.start(&part.id).await?;
    }
    let kept = tidy(engine, part, ours.as_ref()).await?;
    let now = engine.inspect(&part.id).await?;
    Ok(said(part, &now, kept))
}

/// The old one is gone: one is made from what it was, and takes the place of ours.
async fn remake(
    engine: &Engine,
    part: &Part,
    ours: &Value,
    revive: bool,
) -> Result<Undone, Failure> {
    let without = without_agent(ours, part);
    // Somebody may have changed it since, or called it something else.
    let is_edited = !lost(&part.before, &without).is_empty();
    let wished = if is_edited { &without } else { &part.before };
    let place = if is_aside(name(ours)) { part.name.as_str() } else { name(ours) };
    let part = &Part { name: place.to_owned(), ..part.clone() };
    let [back, idle] = [BACK, IDLE].map(|end| format!("{}{end}", part.name));
    if name(ours).ends_with(NEW) && !is_any_there(engine, [&part.name, &back, &idle]).await? {
        // Somebody removed the old one before ours took its place.
        tidy(engine, part, Some(ours)).await?;
        return finish(engine, part).await;
    }
    if name(ours) == part.name {
        let is_on_its_way = engine.find(&back).await?.is_some();
        let end = if is_on_its_way || is_up(ours) || revive { BACK } else { IDLE };
        create(engine, part, wished, end).await.map_err(refused)?;
        engine.stop(ours).await?;
        engine.rename_to(ours, &format!("{}{OLD}", part.name)).await?;
    }
    rests(engine, ours).await?;
    if let Some(idle) = engine.find(&idle).await? {
        engine.rename_to(&idle, &part.name).await?;
    } else {
        if let Some(back) = engine.find(&back).await? {
            engine.rename_to(&back, &part.name).await?;
        }
        engine.start(&part.name).await?;
    }
    let kept = tidy(engine, part, Some(ours)).await?;
    let now = engine.inspect(&part.name).await?;
    Ok(said(part, &now, kept))
}

async fn is_any_there(engine: &Engine, names: [&str; 3]) -> Result<bool, Failure> {
    for name in names {
        if engine.find(name).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Neither is there any more: it was put back before, or somebody removed it.
async fn finish(engine: &Engine, part: &Part) -> Result<Undone, Failure> {
    for end in [BACK, IDLE] {
        if let Some(left) = engine.find(&format!("{}{end}", part.name)).await? {
            engine.remove(&id(&left)).await?;
        }
    }
    match engine.find(&part.name).await? {
        Some(there) => Ok(said(part, &there, None)),
        None => Ok(Undone::Ours(format!("container {} was removed by somebody else", part.name))),
    }
}

/// Makes a container that is not started, and compares it with what is wished of it.
async fn create(engine: &Engine, part: &Part, wished: &Value, end: &str) -> Result<Value, Refusal> {
    let failed = |failure: Failure| {
        let reason = cannot("make another one of", part, &failure);
        Refusal::unsupported("not_made", reason)
    };
    let called = format!("{}{end}", part.name);
    if let Some(left) = engine.find(&called).await.map_err(failed)? {
        engine.remove(&id(&left)).await.map_err(failed)?;
    }
    // A name that leads to another image by now would bring that.
    let [image, id] = [&wished["Config"]["Image"], &wished["Image"]];
    let [image, id] = [image, id].map(|it| it.as_str().unwrap_or_default());
    let leads_to = engine.image(image).await.map_err(failed)?;
    let image = if leads_to.as_deref() == Some(id) { image } else { id };
    let creation = creation(wished, image);
    let id = engine.create(&called, &creation.body).await.map_err(failed)?;
    let made = async {
        for (network, body) in &creation.networks {
            let mut body = body.clone();
            body["Container"] = json!(id);
            engine.connect(network, &body).await?;
        }
        engine.inspect(&id).await
    };
    let made = made.await;
    let lost = made.as_ref().map(|made| lost(wished, made)).unwrap_or_default();
    match made {
        Ok(made) if lost.is_empty() => return Ok(made),
        Ok(_) => {}
        Err(failure) => {
            engine.remove(&id).await.map_err(failed)?;
            return Err(failed(failure));
        }
    }
    engine.remove(&id).await.map_err(failed)?;
    Err(Refusal::unsupported(
        "not_reproducible",
        format!(
            "Another container made from the same as {} is not the same, by its engine's word: {} would be lost; use the lines below, or set it to Network.",
            part.name,
            named(&lost)
        ),
    ))
}

/// Has the engine not start a container anew by itself.
async fn rests(engine: &Engine, container: &Value) -> Result<(), Failure> {
    if !restarts(container) {
        return Ok(());
    }
    engine.restart_policy(&id(container), &json!({"Name": "no"})).await
}

/// Removes ours; where it wrote into its own layer it stays, stopped, under a name that is told.
async fn tidy(
    engine: &Engine,
    part: &Part,
    ours: Option<&Value>,
) -> Result<Option<String>, Failure> {
    let Some(ours) = ours else { return Ok(None) };
    let ours_id = id(ours);
    if written(&engine.changes(&ours_id).await?, ours).is_empty() {
        engine.remove(&ours_id).await?;
        return Ok(None);
    }
    rests(engine, ours).await?;
    let kept = format!("{}{KEPT}-{}", part.name, super::specification::short(ours));
    engine.rename_to(ours, &kept).await?;
    Ok(Some(format!(
        "what it wrote into its own layer is in the stopped container {kept}; remove that when nobody needs it"
    )))
}

/// What came of it, by what the container is now.
fn said(part: &Part, now: &Value, kept: Option<String>) -> Undone {
    let mut all: Vec<String> = kept.into_iter().collect();
    let mut changed = lost(&part.before, now);
    // An engine that makes addresses up at random made up another one at the start.
    changed.retain(|path| !path.ends_with(".MacAddress"));
    if !changed.is_empty() {
        all.push(format!("kept what others changed since: {}", changed.join(", ")));
    }
    if all.is_empty() { Undone::Exactly } else { Undone::Ours(all.join("; ")) }
}

fn refused(refusal: Refusal) -> Failure {
    Failure::Other(refusal.reason)
}

fn cannot(what: &str, part: &Part, failure: &Failure) -> String {
    format!("Cannot {what} container {}: {failure}.", part.name)
}

/// Whether its engine starts a container anew.
fn restarts(inspect: &Value) -> bool {
    let policy = inspect["HostConfig"]["RestartPolicy"]["Name"].as_str().unwrap_or_default();
    !matches!(policy, "" | "no")
}

fn is_up(inspect: &Value) -> bool {
    matches!(inspect["State"]["Status"].as_str(), Some("running" | "restarting" | "paused"))
}

fn id(inspect: &Value) -> String {
    inspect["Id"].as_str().unwrap_or_default().to_owned()
}
