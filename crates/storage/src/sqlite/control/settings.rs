//! Layers of configuration.

use super::{Control, note};
use crate::error::{Doing, Error};
use contract::row::{Configurations, Configured, LayerRow, Time};
use contract::settings::{Layer, Settings};
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Names settings: 16 hexadecimal digits of the hash of their JSON.
pub(super) fn hash(settings: &Settings) -> String {
    let json = serde_json::to_vec(settings).unwrap_or_default();
    Sha256::digest(json).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Control {
    pub(crate) fn layer(&self, layer: Layer, name: &str) -> Settings {
        self.live().layers.get(&(layer, name.to_owned())).cloned().unwrap_or_default()
    }

    pub(crate) fn set_layer(
        &self,
        row: &LayerRow,
        actor: &str,
        now: Time,
    ) -> Result<Vec<String>, Error> {
        const DOING: &str = "keep a configuration";
        let body = serde_json::to_string(&row.settings).doing("a configuration")?;
        let mut connection = self.lock();
        let transaction = connection.transaction().doing(DOING)?;
        let is_empty = row.settings == Settings::default();
        let place = [row.layer.word(), row.name.as_str()];
        if is_empty {
            let sql = "DELETE FROM layer WHERE layer = ?1 AND name = ?2";
            transaction.execute(sql, place).doing(DOING)?;
        } else {
            let sql = "INSERT INTO layer (layer, name, body) VALUES (?1, ?2, ?3)
                ON CONFLICT (layer, name) DO UPDATE SET body = ?3";
            transaction.execute(sql, [place[0], place[1], &body]).doing(DOING)?;
        }
        note(&transaction, now, (actor, "configuration", &place.join(" "), &body))?;
        transaction.commit().doing(DOING)?;
        let mut live = self.live();
        let key = (row.layer, row.name.clone());
        if is_empty {
            live.layers.remove(&key);
        } else {
            live.layers.insert(key, row.settings.clone());
        }
        Ok(live.nodes.keys().cloned().collect())
    }

    pub(crate) fn configurations(&self) -> Result<Configurations, Error> {
        let nodes = self.nodes()?;
        let live = self.live();
        let layers = live.layers.iter().map(|((layer, name), settings)| LayerRow {
            layer: *layer,
            name: name.clone(),
            settings: settings.clone(),
        });
        let instances = nodes.into_iter().filter(|node| !node.recorded).map(|node| Configured {
            id: node.id,
            configuration: node.configuration,
            applied: node.applied,
        });
        Ok(Configurations { layers: layers.collect(), instances: instances.collect() })
    }
}

/// All layers, for the start.
pub(super) fn all(from: &Connection) -> Result<BTreeMap<(Layer, String), Settings>, Error> {
    const DOING: &str = "read configurations";
    let mut statement = from.prepare("SELECT layer, name, body FROM layer").doing(DOING)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let rows: Vec<(String, String, String)> = rows.and_then(Iterator::collect).doing(DOING)?;
    let mut layers = BTreeMap::new();
    for (layer, name, body) in rows {
        // A layer of a newer version means nothing here.
        if let Some(layer) = Layer::of_word(&layer) {
            layers.insert((layer, name), serde_json::from_str(&body).doing("a configuration")?);
        }
    }
    Ok(layers)
}
