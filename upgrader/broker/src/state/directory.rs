use std::collections::{HashMap, HashSet};

use jfe_control::message::{DirectoryEntry, DirectoryKey, ToWorker};

/// Entries or keys in one message: some hundred kilobytes, so that a worker's turn stays short.
const AT_ONCE: usize = 2000;

#[derive(Debug, Default)]
pub(super) struct Directory {
    entries: HashMap<DirectoryKey, DirectoryEntry>,
    /// What the agent named since it connected.
    named: Option<HashSet<DirectoryKey>>,
}

impl Directory {
    pub fn start_snapshot(&mut self) {
        self.named = Some(HashSet::new());
    }

    pub fn end_snapshot(&mut self) -> Vec<ToWorker> {
        let Some(named) = self.named.take() else { return Vec::new() };
        let unnamed = self.entries.keys().filter(|key| !named.contains(key)).cloned().collect();
        self.remove(unnamed)
    }

    /// What workers don't have yet of `entries`.
    pub fn add(&mut self, entries: Vec<DirectoryEntry>) -> Vec<ToWorker> {
        if let Some(named) = &mut self.named {
            named.extend(entries.iter().map(|entry| entry.key.clone()));
        }
        let mut changed = Vec::new();
        for entry in entries {
            if self.entries.get(&entry.key) != Some(&entry) {
                changed.push(entry.clone());
                self.entries.insert(entry.key.clone(), entry);
            }
        }
        in_parts(&changed, |entries| ToWorker::Directory { entries })
    }

    pub fn remove(&mut self, keys: Vec<DirectoryKey>) -> Vec<ToWorker> {
        let known: Vec<DirectoryKey> = keys.into_iter().filter(|key| self.entries.remove(key).is_some()).collect();
        in_parts(&known, |keys| ToWorker::RemoveDirectory { keys })
    }

    /// For a worker that has nothing.
    pub fn all(&self) -> Vec<ToWorker> {
        in_parts(&self.entries.values().cloned().collect::<Vec<_>>(), |entries| ToWorker::Directory { entries })
    }
}

fn in_parts<T: Clone>(items: &[T], message: impl Fn(Vec<T>) -> ToWorker) -> Vec<ToWorker> {
    items.chunks(AT_ONCE).map(|part| message(part.to_vec())).collect()
}
