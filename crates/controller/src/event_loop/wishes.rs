//! What the dashboard wants, and the rules.

use super::Running;
use crate::registry::Wishes;
use crate::rules::{Rulebook, Subject};
use contract::poll::{Desired, Wish};
use contract::workload::Key;

impl Running {
    pub(super) fn wanted(&mut self, wish: Wish) {
        if wish.unchanged {
            self.wishes.generation = wish.generation;
            self.parts.standings.taken_over(self.wishes.generation);
            return;
        }
        let desired = wish.desired.into_iter().map(|desired| (desired.key.clone(), desired));
        let overrides = std::mem::take(&mut self.wishes.overrides);
        let mut wishes = Wishes {
            generation: wish.generation,
            desired: desired.collect(),
            overrides,
            rules: wish.rules,
            names: wish.names,
        };
        wishes.forget_overtaken();
        let before = std::mem::replace(&mut self.wishes, wishes);
        let is_anew = |wish: &&Desired| before.desired.get(&wish.key) != Some(wish);
        let anew: Vec<Key> =
            self.wishes.desired.values().filter(is_anew).map(|wish| wish.key.clone()).collect();
        anew.iter().for_each(|key| self.forget_failures(key));
        // What was said of an SDK was said of an older wish.
        let is_full = |key: &&Key| self.wishes.desired[*key].agent == Some(true);
        anew.iter().filter(is_full).for_each(|key| drop(self.agents.remove(key)));
        if before.rules != self.wishes.rules || before.names != self.wishes.names {
            self.obey_rules();
        }
        if before != self.wishes {
            // A wish is on disk before it is said to be taken over.
            self.save();
        }
        self.parts.standings.taken_over(self.wishes.generation);
    }

    /// Takes over rules and names: those of this node and those of the dashboard.
    pub(super) fn obey_rules(&mut self) {
        self.parts.given.set(self.wishes.names.clone());
        let book = Rulebook::new(
            &[("this node's", &self.parts.rules), ("the dashboard's", &self.wishes.rules)],
            |id| self.parts.programs.user(id),
        );
        for mistake in &book.refused {
            tracing::warn!(mistake, "cannot use a rule; the others hold");
        }
        (self.parts.tell_providers)(book.providers().clone());
        let given = self.parts.given.clone();
        self.registry.judge(|subject| {
            let name = given.name(&Key(subject.key.clone()), &subject.name);
            book.decide(&Subject { name, ..subject.clone() }).counts
        });
        self.book = book;
        // What was left out before may count now.
        self.bystanders.clear();
        if self.looked_at.is_some() {
            self.look();
        }
    }
}
