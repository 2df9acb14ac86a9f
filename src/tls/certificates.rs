//! The certificates of a server, by name.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;

use super::Error;
use super::settings::{Loaded, Settings};
use crate::router::Hosts;

/// The configurations of a server: one by default, and one for each registered name.
///
/// Reading takes no lock. Changes are made to a copy, one after the other.
pub struct Certificates {
    table: ArcSwap<Table>,
    /// Held by whoever makes a new table, while files are read.
    changes: Mutex<()>,
    /// Never held for long: whoever asks for them may hold the interpreter.
    remarks: Mutex<Remarks>,
}

/// What the administrator should know of the files that have been read since it was last asked for.
type Remarks = Vec<String>;

#[derive(Clone)]
struct Table {
    default: Entry,
    names: Hosts<Option<Arc<Named>>>,
    /// The same, in the order in which they came.
    order: Vec<Arc<Named>>,
}

/// What is served, and what it was made from.
#[derive(Clone)]
struct Entry {
    /// None: made elsewhere, and never read again.
    settings: Option<Settings>,
    loaded: Loadings,
}

/// Either what settings gave, or a configuration that came as it is.
#[derive(Clone)]
enum Loadings {
    Own(Loaded),
    Given(Arc<ServerConfig>),
}

struct Named {
    name: Arc<str>,
    /// None: what is proved with the default certificate.
    entry: Option<Entry>,
}

impl Entry {
    fn new(settings: Settings, before: Option<&Self>, remarks: &mut Remarks) -> Result<Self, Error> {
        let sessions = match before.map(|before| &before.loaded) {
            Some(Loadings::Own(loaded)) => Some(&loaded.sessions),
            _ => None,
        };
        let mut loaded = settings.make(sessions)?;
        remarks.append(&mut loaded.remarks);
        Ok(Self { settings: Some(settings), loaded: Loadings::Own(loaded) })
    }

    /// The same from the files as they are now.
    fn anew(&self, remarks: &mut Remarks) -> Result<Self, Error> {
        match &self.settings {
            Some(settings) => Self::new(settings.clone(), Some(self), remarks),
            None => Ok(self.clone()),
        }
    }

    fn config(&self) -> Arc<ServerConfig> {
        match &self.loaded {
            Loadings::Own(loaded) => Arc::clone(&loaded.config),
            Loadings::Given(config) => Arc::clone(config),
        }
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let table = self.table.load();
        let names: Vec<_> = table.order.iter().map(|named| &named.name).collect();
        formatter
            .debug_struct("Certificates")
            .field("default", &table.default.settings)
            .field("names", &names)
            .finish_non_exhaustive()
    }
}

/// What a handshake goes on with.
#[derive(Clone, Debug)]
pub struct Selected {
    /// How this session is configured.
    pub config: Arc<ServerConfig>,
    /// The registered name that the client's matched; none: the default.
    pub name: Option<Arc<str>>,
}

impl Certificates {
    /// Those of `default`, for clients that ask for no name, or for one that is not registered. Reads its files.
    pub fn new(default: Settings) -> Result<Self, Error> {
        let mut remarks = Remarks::new();
        let entry = Entry::new(default, None, &mut remarks)?;
        Ok(Self::with(entry, remarks))
    }

    /// This configuration by default.
    pub fn from_config(default: Arc<ServerConfig>) -> Self {
        Self::with(Entry { settings: None, loaded: Loadings::Given(default) }, Remarks::new())
    }

    fn with(default: Entry, remarks: Remarks) -> Self {
        let table = Table { default, names: Hosts::new(), order: Vec::new() };
        Self { table: ArcSwap::from_pointee(table), changes: Mutex::new(()), remarks: Mutex::new(remarks) }
    }

    /// The configuration for a client that asks for `name`: that of the very name, else that of the pattern which is exact
    /// further to the left, else the default.
    pub fn select(&self, name: Option<&str>) -> Selected {
        let table = self.table.load();
        let found = name.and_then(|name| table.names.find(name.as_bytes())).and_then(Option::as_ref);
        match found {
            Some(named) => Selected {
                config: named.entry.as_ref().unwrap_or(&table.default).config(),
                name: Some(Arc::clone(&named.name)),
            },
            None => Selected { config: table.default.config(), name: None },
        }
    }

    /// Whether a client that asks for `name` gets what is registered for it, or for a pattern that it matches.
    pub fn knows(&self, name: &str) -> bool {
        self.table.load().names.find(name.as_bytes()).is_some()
    }

    /// Whether any name is registered.
    pub fn has_names(&self) -> bool {
        !self.table.load().names.is_empty()
    }

    /// Registers a name, in which `*` stands for one label. Without `settings` it is served as clients without a name are, and
    /// settings without a key and a certificate have those of the default. False: it was registered before, and is left as it is.
    pub fn add(&self, name: &str, settings: Option<Settings>) -> Result<bool, Error> {
        let key = Hosts::<()>::normalise(name)?;
        let _changing = self.changes.lock();
        let mut remarks = Remarks::new();
        if self.table.load().names.get(name).is_some() {
            return Ok(false);
        }
        let entry = match settings {
            Some(settings) => Some(Entry::new(self.complete(settings), None, &mut remarks)?),
            None => None,
        };
        let name: Arc<str> = String::from_utf8_lossy(&key).into();
        let named = Arc::new(Named { name: Arc::clone(&name), entry });
        let mut table = Table::clone(&self.table.load());
        table.order.push(Arc::clone(&named));
        *table.names.entry(&name)? = Some(named);
        self.table.store(Arc::new(table));
        self.remarks.lock().append(&mut remarks);
        Ok(true)
    }

    /// Settings with the default's key and certificate where they name none.
    fn complete(&self, mut settings: Settings) -> Settings {
        let table = self.table.load();
        if settings.key.is_none()
            && settings.certificate.is_none()
            && let Some(default) = &table.default.settings
        {
            settings.key.clone_from(&default.key);
            settings.certificate.clone_from(&default.certificate);
            settings.passphrase.clone_from(&default.passphrase);
        }
        settings
    }

    /// Removes a name; whether it was registered. Connections that it has opened go on.
    pub fn remove(&self, name: &str) -> bool {
        let _changing = self.changes.lock();
        let mut table = Table::clone(&self.table.load());
        let Some(removed) = table.names.remove(name).flatten() else { return false };
        table.order.retain(|named| !Arc::ptr_eq(named, &removed));
        self.table.store(Arc::new(table));
        true
    }

    /// Reads all files anew: handshakes from now on get what they hold. When one of them is wrong, everything stays as it was.
    /// Connections go on, and sessions that clients keep are resumed, unless other clients are let in now than before.
    pub fn reload(&self) -> Result<(), Error> {
        let _changing = self.changes.lock();
        let mut remarks = Remarks::new();
        let before = self.table.load();
        let default = before.default.anew(&mut remarks)?;
        let mut table = Table { default, names: Hosts::new(), order: Vec::with_capacity(before.order.len()) };
        for named in &before.order {
            let entry = match &named.entry {
                Some(entry) => Some(entry.anew(&mut remarks).map_err(|error| Error::Named {
                    name: named.name.as_ref().into(),
                    error: Box::new(error),
                })?),
                None => None,
            };
            let renewed = Arc::new(Named { name: Arc::clone(&named.name), entry });
            *table.names.entry(&named.name)? = Some(Arc::clone(&renewed));
            table.order.push(renewed);
        }
        self.table.store(Arc::new(table));
        self.remarks.lock().append(&mut remarks);
        Ok(())
    }

    /// What the administrator should know of the files that have been read since this was last asked: each is a sentence.
    pub fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut *self.remarks.lock())
    }
}
