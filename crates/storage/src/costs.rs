//! Cost by model in each bucket of time. Pure; knows no SQL.

use contract::row::Money;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Models that are named; the rest is added up as [`OTHER`].
const NAMED: usize = 8;
/// Models that are told apart while adding, which bounds the memory.
const MAX_MODELS: usize = 1000;
/// Name of the rest.
const OTHER: &str = "other";

/// Cost in 10^-12 USD, by number of the bucket.
pub(crate) type ByBucket = BTreeMap<usize, u128>;

/// Cost by model; `None` is calls without one, and models beyond the limit.
#[derive(Debug)]
pub(crate) struct Costs<Model> {
    models: HashMap<Option<Model>, ByBucket>,
}

impl<Model> Default for Costs<Model> {
    fn default() -> Self {
        Self { models: HashMap::new() }
    }
}

impl<Model: Eq + Hash> Costs<Model> {
    pub(crate) fn add(&mut self, model: Option<Model>, bucket: usize, pico_usd: u128) {
        *self.of(model).entry(bucket).or_default() += pico_usd;
    }

    fn of(&mut self, model: Option<Model>) -> &mut ByBucket {
        let full = self.models.len() >= MAX_MODELS && !self.models.contains_key(&model);
        self.models.entry(if full { None } else { model }).or_default()
    }
}

impl Costs<String> {
    /// The rows of `len` buckets: the models that cost most over all of them by name, and the
    /// rest as one.
    pub(crate) fn top(self, len: usize) -> Vec<BTreeMap<String, Money>> {
        let mut named: Vec<(u128, String, ByBucket)> = Vec::new();
        let mut rest = ByBucket::new();
        let add = |rest: &mut ByBucket, buckets: ByBucket| {
            for (bucket, pico_usd) in buckets {
                *rest.entry(bucket).or_default() += pico_usd;
            }
        };
        for (model, buckets) in self.models {
            match model {
                Some(model) => named.push((buckets.values().sum(), model, buckets)),
                None => add(&mut rest, buckets),
            }
        }
        named.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        for (_, _, buckets) in named.split_off(named.len().min(NAMED)) {
            add(&mut rest, buckets);
        }
        let mut rows = vec![BTreeMap::<String, Money>::new(); len];
        let named = named.into_iter().map(|(_, model, buckets)| (model, buckets));
        for (model, buckets) in named.chain([(OTHER.to_owned(), rest)]) {
            for (bucket, pico_usd) in buckets {
                let Some(row) = rows.get_mut(bucket) else { continue };
                // A model may be called what the rest is called: then both are in one.
                row.entry(model.clone()).or_insert(Money { pico_usd: 0 }).pico_usd += pico_usd;
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::Costs;

    #[test]
    fn nothing_is_lost_beyond_the_limit_of_models() {
        let mut costs = Costs::default();
        for number in 0..3000_u32 {
            costs.add(Some(format!("m{number}")), 0, 1 + u128::from(number < 8));
        }
        let rows = costs.top(1);
        assert_eq!(rows[0].len(), 9);
        assert_eq!(rows[0]["m0"].pico_usd, 2);
        assert_eq!(rows[0].values().map(|cost| cost.pico_usd).sum::<u128>(), 3008);
    }
}
