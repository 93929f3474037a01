//! A stable address whose servers change, like a virtual address or a proxy.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The server that an address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    Server(SocketAddr),
    /// New connections are closed at once, as by a proxy without a server.
    Nobody,
    /// Sent data is lost without any notice, as when a machine loses its power.
    Silence,
}

/// Listens until it is dropped.
pub(crate) struct Forwarder {
    address: SocketAddr,
    route: Arc<Mutex<Route>>,
    accepting: Option<JoinHandle<()>>,
}

struct Route {
    behind: Behind,
    open: Vec<TcpStream>,
    /// Whether data on the open connections is lost.
    is_silent: Arc<AtomicBool>,
    /// Whether a connection falls silent when it is tested twice in a row.
    loses_tests: Arc<AtomicBool>,
    /// Connections from a past silence, which no other event closes.
    lost: Vec<TcpStream>,
    is_over: bool,
}

impl Forwarder {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let route = Arc::new(Mutex::new(Route {
            behind: Behind::Server(server),
            open: Vec::new(),
            is_silent: Arc::default(),
            loses_tests: Arc::default(),
            lost: Vec::new(),
            is_over: false,
        }));
        let shared = Arc::clone(&route);
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming() {
                // The lock is held until the connection is recorded, so no connection goes to the
                // previous server.
                let mut route = shared.lock().unwrap();
                if route.is_over {
                    break;
                }
                if let Ok(client) = client {
                    route.join(client);
                }
            }
        });
        Self { address, route, accepting: Some(accepting) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the server of the address. Connections to the previous server end, unless it fell
    /// silent; those stay open.
    pub(crate) fn point_at(&self, behind: Behind) {
        let mut route = self.route();
        if behind == Behind::Silence {
            route.is_silent.store(true, Ordering::SeqCst);
        } else if route.behind == Behind::Silence {
            let open = std::mem::take(&mut route.open);
            route.lost.extend(open);
            route.is_silent = Arc::default();
        } else {
            end(&mut route.open);
        }
        route.behind = behind;
    }

    /// Whether each connection to a PostgreSQL server is lost without notice when its client tests it
    /// for the second time in a row, as it does after each use.
    pub(crate) fn lose_tested(&self, loses: bool) {
        self.route().loses_tests.store(loses, Ordering::SeqCst);
    }

    fn route(&self) -> MutexGuard<'_, Route> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Route {
    fn join(&mut self, client: TcpStream) {
        let server = match self.behind {
            Behind::Nobody => return,
            Behind::Silence => return self.open.push(client),
            Behind::Server(address) => TcpStream::connect(address),
        };
        // If the server has just died, the client's connection is dropped.
        let Ok(server) = server else { return };
        for (from, to) in [(&client, &server), (&server, &client)] {
            from.set_nodelay(true).unwrap();
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let (is_silent, loses) = (Arc::clone(&self.is_silent), Arc::clone(&self.loses_tests));
            std::thread::spawn(move || pump(from, to, &is_silent, &loses));
        }
        self.open.extend([client, server]);
    }
}

/// A client's test of a connection to a PostgreSQL server: a message of its own.
const SYNC: [u8; 5] = [b'S', 0, 0, 0, 4];

/// Passes on all data, and the end of the stream.
fn pump(mut from: TcpStream, mut to: TcpStream, is_silent: &AtomicBool, loses_tests: &AtomicBool) {
    let mut buffer = vec![0; 16 * 1024];
    let mut tests_in_a_row = 0;
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let data = &buffer[..length];
        tests_in_a_row = if data == SYNC { tests_in_a_row + 1 } else { 0 };
        if tests_in_a_row >= 2 && loses_tests.load(Ordering::SeqCst) {
            // What comes from the client from now on is read and lost.
            let _lost = std::io::copy(&mut from, &mut std::io::sink());
            return;
        }
        if !is_silent.load(Ordering::SeqCst) && to.write_all(data).is_err() {
            break;
        }
    }
    if !is_silent.load(Ordering::SeqCst) {
        end(&mut vec![from, to]);
    }
}

fn end(streams: &mut Vec<TcpStream>) {
    for stream in streams.drain(..) {
        let _was_open = stream.shutdown(Shutdown::Both).is_ok();
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let mut route = self.route();
        route.is_over = true;
        end(&mut route.open);
        end(&mut route.lost);
        drop(route);
        // Wakes the thread, which then sees that it must end.
        let _woken = TcpStream::connect(self.address).is_ok();
        let _ended = self.accepting.take().map(JoinHandle::join).is_some();
    }
}
