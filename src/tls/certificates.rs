//! The certificates of a server, by name.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;

use super::Error;
use super::settings::{Loaded, Settings};
use crate::router::{Hosts, names_an_address};

/// The configurations of a server: one by default, and one for each registered name.
///
/// Reading takes no lock. Changes are made to a copy, one after the other.
pub struct Certificates {
    table: ArcSwap<Table>,
    /// Held while a new table is made, but not while files are read.
    changes: Mutex<()>,
    /// Held while all files are read anew, so that the last read wins.
    reloading: Mutex<()>,
    /// Never held for long: the caller may hold the GIL.
    remarks: Mutex<Remarks>,
}

/// Warnings for the administrator about the files that were read since the last call.
type Remarks = Vec<String>;

#[derive(Clone)]
struct Table {
    default: Entry,
    names: Hosts<Option<Arc<Named>>>,
    /// The same, in the order of registration.
    order: Vec<Arc<Named>>,
}

/// A configuration and its settings.
#[derive(Clone)]
struct Entry {
    /// `None`: made elsewhere, and never read again.
    settings: Option<Settings>,
    loaded: Loadings,
}

/// Either the result of settings, or a given configuration.
#[derive(Clone)]
enum Loadings {
    Own(Loaded),
    Given(Arc<ServerConfig>),
}

struct Named {
    /// Survives a reload: the same pointer means the same registration.
    name: Arc<str>,
    /// `None`: a name of the default certificate.
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

    /// The same, from the present files.
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

/// Distinguishes registrations of the same name.
fn identity(name: &Arc<str>) -> usize {
    Arc::as_ptr(name).addr()
}

/// A name whose files have been read, and which is not registered yet.
pub struct Prepared(Named);

impl std::fmt::Debug for Prepared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Prepared").field(&self.0.name).finish()
    }
}

/// The configuration that a handshake uses.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The configuration of this session.
    pub config: Arc<ServerConfig>,
    /// The registered name that the client's matched; `None`: the default.
    pub name: Option<Arc<str>>,
}

impl Certificates {
    /// The certificates of `default`, for clients that ask for no name, or for an unregistered one. Reads its
    /// files.
    pub fn new(default: Settings) -> Result<Self, Error> {
        let mut remarks = Remarks::new();
        let entry = Entry::new(default, None, &mut remarks)?;
        Ok(Self::with(entry, remarks))
    }

    /// The given configuration by default.
    pub fn from_config(default: Arc<ServerConfig>) -> Self {
        Self::with(Entry { settings: None, loaded: Loadings::Given(default) }, Remarks::new())
    }

    fn with(default: Entry, remarks: Remarks) -> Self {
        let table = Table { default, names: Hosts::new(), order: Vec::new() };
        Self {
            table: ArcSwap::from_pointee(table),
            changes: Mutex::new(()),
            reloading: Mutex::new(()),
            remarks: Mutex::new(remarks),
        }
    }

    /// The configuration for a client that asks for `name`: that of the exact name, else that of the pattern
    /// which is exact further to the left, else the default.
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

    /// Whether a client that asks for `name` gets a registered configuration, of that name or of a pattern.
    pub fn knows(&self, name: &str) -> bool {
        self.table.load().names.find(name.as_bytes()).is_some()
    }

    /// Whether any name is registered.
    pub fn has_names(&self) -> bool {
        !self.table.load().names.is_empty()
    }

    /// Whether `name`, which a handshake has selected, is still the same registration, and this authority, if
    /// there is one, selects it as well. An IP address matches every name, since no handshake names one (RFC
    /// 6066 section 3).
    pub fn stands_for(&self, name: &Arc<str>, authority: Option<&[u8]>) -> bool {
        let table = self.table.load();
        let is_it = |found: Option<&Option<Arc<Named>>>| {
            found.and_then(Option::as_ref).is_some_and(|named| Arc::ptr_eq(&named.name, name))
        };
        is_it(table.names.exact(name.as_bytes()))
            && authority.is_none_or(|host| is_it(table.names.find(host)) || names_an_address(host))
    }

    /// Registers a name, in which `*` stands for one label. Without `settings` it is served like clients
    /// without a name. Settings without a key and a certificate use those of the default, and settings
    /// without options for client certificates use the default's options. False: it was already registered,
    /// and is unchanged.
    pub fn add(&self, name: &str, settings: Option<Settings>) -> Result<bool, Error> {
        match self.prepare(name, settings)? {
            Some((prepared, mut remarks)) => {
                self.remarks.lock().append(&mut remarks);
                self.commit(prepared, || ())
            }
            None => Ok(false),
        }
    }

    /// The first half of [`Self::add`], which reads files. Returns the input of [`Self::commit`], and
    /// warnings for the administrator. `None`: the name is registered already.
    pub fn prepare(
        &self,
        name: &str,
        settings: Option<Settings>,
    ) -> Result<Option<(Prepared, Vec<String>)>, Error> {
        let key = Hosts::<()>::normalise(name)?;
        let mut remarks = Remarks::new();
        if self.table.load().names.exact(&key).is_some() {
            return Ok(None);
        }
        let entry = match settings {
            Some(settings) => Some(Entry::new(self.complete(settings), None, &mut remarks)?),
            None => None,
        };
        let name = String::from_utf8_lossy(&key).into();
        Ok(Some((Prepared(Named { name, entry }), remarks)))
    }

    /// The second half. `before` is called right before the registration. Nobody adds or removes a name
    /// meanwhile.
    pub fn commit(&self, prepared: Prepared, before: impl FnOnce()) -> Result<bool, Error> {
        let _changing = self.changes.lock();
        let named = Arc::new(prepared.0);
        let mut table = Table::clone(&self.table.load());
        let place = table.names.entry(&named.name)?;
        if place.is_some() {
            return Ok(false);
        }
        *place = Some(Arc::clone(&named));
        table.order.push(named);
        before();
        self.table.store(Arc::new(table));
        Ok(true)
    }

    /// Settings, completed from the default.
    fn complete(&self, mut settings: Settings) -> Settings {
        let table = self.table.load();
        let Some(default) = &table.default.settings else { return settings };
        if settings.key_file_name.is_none() && settings.cert_file_name.is_none() {
            settings.key_file_name.clone_from(&default.key_file_name);
            settings.cert_file_name.clone_from(&default.cert_file_name);
            settings.passphrase.clone_from(&default.passphrase);
        }
        // A certificate of its own is no reason to admit all clients.
        if settings.ca_file_name.is_none() && settings.client_cert.is_none() {
            settings.ca_file_name.clone_from(&default.ca_file_name);
            settings.client_cert = default.client_cert;
        }
        settings
    }

    /// Removes a name; returns whether it was registered. Its open connections go on.
    pub fn remove(&self, name: &str) -> bool {
        self.remove_and(name, || ())
    }

    /// The same; calls `after` when the name has been removed. Nobody adds or removes one meanwhile.
    pub fn remove_and(&self, name: &str, after: impl FnOnce()) -> bool {
        let _changing = self.changes.lock();
        let mut table = Table::clone(&self.table.load());
        let Some(removed) = table.names.remove(name).flatten() else { return false };
        table.order.retain(|named| !Arc::ptr_eq(named, &removed));
        self.table.store(Arc::new(table));
        after();
        true
    }

    /// Reads all files anew, for later handshakes. If one of them is bad, everything stays as it was.
    /// Connections go on, and clients can resume their sessions, unless the rules for client certificates
    /// have changed.
    ///
    /// Names may be added and removed meanwhile, and adding one does not wait for the files of the others.
    pub fn reload(&self) -> Result<(), Error> {
        let _reloading = self.reloading.lock();
        let mut remarks = Remarks::new();
        let before = self.table.load_full();
        let default = before.default.anew(&mut remarks)?;
        let mut renewed = HashMap::with_capacity(before.order.len());
        for named in &before.order {
            let entry = match &named.entry {
                Some(entry) => Some(entry.anew(&mut remarks).map_err(|error| Error::Named {
                    name: named.name.as_ref().into(),
                    error: Box::new(error),
                })?),
                None => None,
            };
            let anew = Named { name: Arc::clone(&named.name), entry };
            renewed.insert(identity(&named.name), Arc::new(anew));
        }
        let _changing = self.changes.lock();
        let mut table = Table::clone(&self.table.load());
        table.default = default;
        // New names were read just now, and removed names stay removed.
        for named in &mut table.order {
            if let Some(anew) = renewed.remove(&identity(&named.name)) {
                *table.names.entry(&named.name)? = Some(Arc::clone(&anew));
                *named = anew;
            }
        }
        self.table.store(Arc::new(table));
        self.remarks.lock().append(&mut remarks);
        Ok(())
    }

    /// Warnings for the administrator about the files that were read since the last call, each a sentence.
    pub fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut *self.remarks.lock())
    }
}
