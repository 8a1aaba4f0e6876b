//! Which answers are taken over: the newest wishes win, whatever overtakes what, and wishes that a
//! restored dashboard forgot are brought back to it before it is obeyed. A value without I/O.

use contract::poll::Wish;

/// What is agreed with the dashboard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agreement {
    /// Generation of the wishes that were handed over last.
    generation: u64,
    /// Counts what was agreed: an answer to an older question is an old answer.
    count: u64,
    /// Where the dashboard stands with wishes that it forgot.
    held: Held,
}

/// Whether wishes have to be brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Held {
    /// The dashboard knows them.
    #[default]
    Known,
    /// It asked for them.
    Asked,
    /// It was told them.
    Told,
}

/// What to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing in it is news.
    Old,
    /// Its wishes hold from now on.
    Take,
    /// It is not obeyed before it was told the wishes that the node holds.
    TellHeld,
}

impl Agreement {
    /// After a start: these wishes were on disk.
    pub(crate) fn of(generation: u64) -> Self {
        Self { generation, ..Self::default() }
    }

    /// What a question is numbered with.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Whether the next report has to carry all wishes.
    pub(crate) fn is_held_asked(&self) -> bool {
        self.held == Held::Asked
    }

    /// A report that carried all wishes was answered.
    pub(crate) fn told_held(&mut self) {
        self.held = Held::Told;
        // Answers to what was asked before know nothing of it.
        self.count += 1;
    }

    /// Judges an answer to a question that was asked at `asked_at`.
    pub(crate) fn hear(&mut self, wish: &Wish, asked_at: u64) -> Verdict {
        let is_late = asked_at != self.count;
        if wish.ask_held && self.held != Held::Told {
            if !is_late {
                self.held = Held::Asked;
            }
            return Verdict::TellHeld;
        }
        if !wish.ask_held && !is_late {
            self.held = Held::Known;
        }
        // A lower generation than known is an answer that was overtaken, unless it was asked for
        // after the newest was taken over: then the dashboard began anew, and its word holds.
        let is_news =
            wish.generation > self.generation || (wish.generation < self.generation && !is_late);
        if !is_news || wish.unchanged {
            return Verdict::Old;
        }
        self.generation = wish.generation;
        self.count += 1;
        Verdict::Take
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wish(generation: u64) -> Wish {
        Wish { generation, ..Wish::default() }
    }

    fn asking(generation: u64) -> Wish {
        Wish { ask_held: true, ..wish(generation) }
    }

    #[test]
    fn an_overtaken_answer_is_dropped_and_a_dashboard_that_began_anew_is_believed() {
        let mut agreement = Agreement::default();
        let before = agreement.count();
        assert_eq!(agreement.hear(&wish(7), before), Verdict::Take);
        assert_eq!(agreement.hear(&wish(6), before), Verdict::Old);
        assert_eq!(agreement.hear(&wish(7), agreement.count()), Verdict::Old);
        assert_eq!(agreement.hear(&wish(0), agreement.count()), Verdict::Take);
    }

    #[test]
    fn a_restored_dashboard_is_told_before_it_is_obeyed_and_that_ends() {
        let mut agreement = Agreement::of(9);
        let early = agreement.count();
        assert_eq!(agreement.hear(&asking(4), early), Verdict::TellHeld);
        assert!(agreement.is_held_asked());
        agreement.told_held();
        // An answer from before it was told is late, and changes nothing.
        assert_eq!(agreement.hear(&asking(4), early), Verdict::Old);
        // It took them over: its generation grew.
        assert_eq!(agreement.hear(&wish(10), agreement.count()), Verdict::Take);

        // One that does not want them is believed after it was told once.
        let mut agreement = Agreement::of(9);
        assert_eq!(agreement.hear(&asking(4), agreement.count()), Verdict::TellHeld);
        agreement.told_held();
        assert_eq!(agreement.hear(&asking(4), agreement.count()), Verdict::Take);
        assert!(!agreement.is_held_asked(), "no loop");
    }

    proptest! {
        /// A dashboard makes wishes and now and then is restored from an older copy, while answers
        /// come late and in any order: in the end the newest wish that the node or the dashboard
        /// knows holds on both sides.
        #[test]
        fn the_last_wish_wins(events in prop::collection::vec((0_u8..8, any::<u8>()), 0..60)) {
            let mut agreement = Agreement::default();
            let (mut newest, mut backup, mut node) = (0_u64, 0_u64, 0_u64);
            let mut waiting: Vec<(Wish, u64, bool)> = Vec::new();
            let answer = |newest: &mut u64, node: u64, tells: bool| {
                if tells && node > *newest { *newest = node + 1; }
                if node > *newest { asking(*newest) } else { wish(*newest) }
            };
            let hear = |agreement: &mut Agreement, node: &mut u64, (wish, at, tells): (Wish, u64, bool)| {
                if tells { agreement.told_held(); }
                let at = if tells { agreement.count() } else { at };
                if agreement.hear(&wish, at) == Verdict::Take { *node = wish.generation; }
            };
            for (event, pick) in events {
                match event {
                    0 | 1 => newest += 1,
                    2 => backup = newest,
                    3 => newest = backup,
                    4 | 5 => {
                        let tells = agreement.is_held_asked();
                        let said = answer(&mut newest, node, tells);
                        waiting.push((said, agreement.count(), tells));
                    }
                    _ if waiting.is_empty() => {}
                    _ => {
                        let late = waiting.remove(usize::from(pick) % waiting.len());
                        hear(&mut agreement, &mut node, late);
                    }
                }
            }
            let most = newest.max(node);
            for _ in 0..4 {
                let tells = agreement.is_held_asked();
                let said = answer(&mut newest, node, tells);
                let at = agreement.count();
                hear(&mut agreement, &mut node, (said, at, tells));
            }
            prop_assert_eq!(node, newest);
            prop_assert!(node >= most, "{} is older than {}", node, most);
        }
    }
}
