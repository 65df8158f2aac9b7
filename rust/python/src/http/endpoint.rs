//! An endpoint: what it serves, and its sessions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use foldhash::fast::RandomState;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::flight::record::HttpClient;
use turnout_core::handle::{self, KEY_BYTES, Keys, Kind, Process};
use turnout_core::http::limits::HttpLimits;
use turnout_core::http::request::{self, Endpoint, Refused, Resource};
use turnout_core::sync::lock;
use turnout_core::wire::envelope::ScanLimits;
use turnout_http::{Date, SyntaxLimits};

use crate::connection::Connection;
use crate::driver::transport::StreamWriter;
use crate::http::client::Client;
use crate::http::held::Held;
use crate::http::session::Session;
use crate::values::options::set_limits;

#[doc = text!("HttpEndpoint")]
#[pyclass(frozen, module = "turnout._native")]
pub struct HttpEndpoint {
    pub endpoint: Endpoint,
    pub limits: HttpLimits,
    pub syntax: SyntaxLimits,
    scan: Mutex<ScanLimits>,
    pub date: Mutex<Date>,
    /// Whether the host says who asks.
    pub authenticates: bool,
    pub held: Arc<Held>,
    pub host: Py<PyAny>,
    keys: Keys,
    is_closing: AtomicBool,
    now: AtomicU64,
    /// How many legacy sessions each client has.
    clients: Mutex<HashMap<Box<str>, usize, RandomState>>,
    next_stream: AtomicU64,
    next_session: AtomicU32,
    legacy: Mutex<HashMap<Box<str>, Arc<Session>, RandomState>>,
    modern: Mutex<HashMap<Box<str>, Arc<Session>, RandomState>>,
    /// All of them, by the addresses of their connections.
    sessions: Mutex<HashMap<usize, Arc<Session>, RandomState>>,
}

#[pymethods]
impl HttpEndpoint {
    #[new]
    #[pyo3(signature = (
        host, path, key, *, hosts, origins, eras, limits,
        authenticates, shows_to_origins, resource, proxies
    ))]
    fn new(
        host: Py<PyAny>,
        path: &str,
        key: &[u8],
        hosts: Option<Vec<String>>,
        origins: Vec<String>,
        eras: (bool, bool),
        limits: Option<&Bound<'_, PyDict>>,
        authenticates: bool,
        shows_to_origins: bool,
        resource: Option<(String, Vec<u8>)>,
        proxies: Vec<String>,
    ) -> PyResult<Self> {
        let key: &[u8; KEY_BYTES] =
            key.try_into().map_err(|_| PyValueError::new_err("a key has 32 bytes"))?;
        let mut http = HttpLimits::default();
        set_limits(limits, |name, value| http.set(name, value))?;
        let proxies = proxies.iter().map(|text| {
            text.parse().map_err(|_| PyValueError::new_err(format!("{text:?} is no address and no network")))
        });
        let lower =
            |names: Vec<String>| names.into_iter().map(|name| name.to_lowercase().into_boxed_str()).collect();
        Ok(Self {
            endpoint: Endpoint {
                path: path.strip_suffix('/').unwrap_or(path).into(),
                hosts: hosts.map(lower),
                origins: lower(origins),
                legacy: eras.0,
                modern: eras.1,
                shows_to_origins,
                resource: resource
                    .map(|(path, document)| Resource { path: path.into(), document: document.into() }),
                proxies: proxies.collect::<PyResult<_>>()?,
            },
            limits: http,
            syntax: SyntaxLimits { body_bytes: http.max_body_bytes as u64, ..SyntaxLimits::default() },
            scan: Mutex::default(),
            date: Mutex::default(),
            authenticates,
            held: Arc::new(Held::new(&http)),
            host,
            keys: Keys::new(Process::default(), 0, key),
            is_closing: AtomicBool::new(false),
            now: AtomicU64::new(0),
            clients: Mutex::default(),
            next_stream: AtomicU64::new(1),
            next_session: AtomicU32::new(1),
            legacy: Mutex::default(),
            modern: Mutex::default(),
            sessions: Mutex::default(),
        })
    }

    #[doc = text!("HttpEndpoint.sessions")]
    fn sessions(&self) -> (usize, usize) {
        (lock(&self.legacy).len(), lock(&self.modern).len())
    }

    #[doc = text!("HttpEndpoint.set_scan_limits")]
    fn set_scan_limits(&self, max_depth: usize, max_id_bytes: usize) {
        *lock(&self.scan) = ScanLimits { max_depth, max_id_bytes };
    }

    #[doc = text!("HttpEndpoint.set_time")]
    fn set_time(&self, unix_seconds: u64) {
        lock(&self.date).update(unix_seconds);
    }

    #[doc = text!("HttpEndpoint.held_bytes")]
    #[getter]
    fn held_bytes(&self) -> usize {
        self.held.bytes()
    }

    #[doc = text!("HttpEndpoint.limit")]
    fn limit(&self, name: &str) -> PyResult<usize> {
        let known = self.limits.all().find(|(known, _)| *known == name);
        known.map(|(_, value)| value).ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    #[doc = text!("HttpEndpoint.idle_sessions")]
    fn idle_sessions(&self, py: Python<'_>, now: u64) -> Vec<Py<Connection>> {
        self.now.store(now, Ordering::Relaxed);
        let most = self.limits.max_session_idle_ms as u64;
        let sessions: Vec<Arc<Session>> = lock(&self.sessions).values().map(Arc::clone).collect();
        let idle = sessions.iter().filter(|session| session.idle_since(now) >= most);
        idle.map(|session| session.connection.clone_ref(py)).collect()
    }

    #[doc = text!("HttpEndpoint.close")]
    fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    #[doc = text!("HttpEndpoint.forget")]
    fn forget(&self, connection: &Bound<'_, Connection>) {
        let session = lock(&self.sessions).remove(&connection.as_ptr().addr());
        let Some(session) = session else { return };
        let Some(id) = &session.id else {
            let mut modern = lock(&self.modern);
            // Another one may have taken its place.
            if modern.get(&*session.client.key).is_some_and(|current| Arc::ptr_eq(current, &session)) {
                modern.remove(&*session.client.key);
            }
            return;
        };
        lock(&self.legacy).remove(&**id);
        let mut clients = lock(&self.clients);
        if let Some(count) = clients.get_mut(&*session.client.key) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&*session.client.key);
            }
        }
    }
}

impl HttpEndpoint {
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// How messages are read, before it is known by which connection.
    pub fn scan_limits(&self) -> ScanLimits {
        *lock(&self.scan)
    }

    pub fn next_stream(&self) -> StreamId {
        self.next_stream.fetch_add(1, Ordering::Relaxed)
    }

    /// What the time was at the last look, in milliseconds.
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// The session of that handle, which was given to this client.
    pub fn find(&self, id: &[u8], client: &Client) -> Result<Arc<Session>, Refused> {
        let id = std::str::from_utf8(id).unwrap_or_default();
        // What is no handle of ours, or another's, is not looked for.
        self.keys
            .open(id, Kind::Session, client.owner())
            .ok()
            .and_then(|_| lock(&self.legacy).get(id).map(Arc::clone))
            // One that is about to close answers nothing any more.
            .filter(|session| session.is_open())
            .ok_or_else(request::unknown_session)
    }

    /// A new legacy session of a client.
    pub fn open(&self, py: Python<'_>, client: &Arc<Client>) -> PyResult<Result<Arc<Session>, Refused>> {
        let HttpLimits { max_sessions, max_client_sessions, .. } = self.limits;
        if lock(&self.legacy).len() >= max_sessions {
            return Ok(Err(request::overloaded("max_sessions", max_sessions, false)));
        }
        if lock(&self.clients).get(&client.key).is_some_and(|count| *count >= max_client_sessions) {
            return Ok(Err(request::overloaded("max_client_sessions", max_client_sessions, true)));
        }
        let slot = self.next_session.fetch_add(1, Ordering::Relaxed);
        let id: Box<str> = self.keys.mint(Kind::Session, slot, 0, client.owner()).into();
        let Some(session) = self.new_session(py, Some(id.clone()), client)? else {
            return Ok(Err(request::not_taken()));
        };
        *lock(&self.clients).entry(client.key.clone()).or_default() += 1;
        lock(&self.legacy).insert(id, Arc::clone(&session));
        Ok(Ok(session))
    }

    /// The session of the modern requests of a client.
    pub fn of_client(&self, py: Python<'_>, client: &Arc<Client>) -> PyResult<Result<Arc<Session>, Refused>> {
        let session = lock(&self.modern).get(&client.key).map(Arc::clone);
        if let Some(session) = session.filter(|session| session.is_open()) {
            return Ok(Ok(session));
        }
        let most = self.limits.max_sessions;
        if lock(&self.modern).len() >= most {
            return Ok(Err(request::overloaded("max_sessions", most, false)));
        }
        let Some(session) = self.new_session(py, None, client)? else {
            return Ok(Err(request::not_taken()));
        };
        lock(&self.modern).insert(client.key.clone(), Arc::clone(&session));
        Ok(Ok(session))
    }

    /// A new session; None where the host takes nobody in.
    fn new_session(
        &self,
        py: Python<'_>,
        id: Option<Box<str>>,
        client: &Arc<Client>,
    ) -> PyResult<Option<Arc<Session>>> {
        let is_modern = id.is_none();
        let address = PyString::new(py, &client.address);
        let principal = client.principal.as_ref().map(|principal| principal.bind(py));
        let opened =
            self.host.bind(py).call_method1(intern!(py, "open_session"), (address, is_modern, principal))?;
        if opened.is_none() {
            return Ok(None);
        }
        let connection = opened.cast_into::<Connection>()?;
        let (held, client) = (Arc::clone(&self.held), Arc::clone(client));
        let unbound = connection.clone().unbind();
        let session = Arc::new(Session::new(id, client, unbound, &self.limits, held, self.now()));
        let digest = session.id.as_deref().map(|id| handle::digest(id).into());
        let http = HttpClient { address: session.client.address.clone(), session: digest };
        connection.get().driver().core().peer().note_http(http);
        connection.get().driver().address(Arc::downgrade(&session) as Weak<dyn StreamWriter>, is_modern);
        lock(&self.sessions).insert(connection.as_ptr().addr(), Arc::clone(&session));
        Ok(Some(session))
    }

    /// Ends a legacy session, because its client says so.
    pub fn close_session(&self, py: Python<'_>, session: &Session) -> PyResult<()> {
        self.host.bind(py).call_method1(intern!(py, "close_session"), (&session.connection,)).map(drop)
    }
}
