//! `Peers`: where connections come from, so that nobody takes all places and keeps others, such as
//! a probe of the host's health, out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The number of connections of each address.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    each: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that counts as one of its address until this is dropped.
#[derive(Debug)]
pub(super) struct PeerPlace {
    peers: Peers,
    network: IpAddr,
}

impl Peers {
    /// Lets each address have so many connections.
    pub(super) fn new(each: usize) -> Self {
        Self { each, open: Arc::default() }
    }

    /// Takes a place for a connection from there. None if that address has as many as it may have.
    pub(super) fn admit(&self, from: IpAddr) -> Option<PeerPlace> {
        let network = network(from);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(PeerPlace { peers: self.clone(), network })
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut open = self.peers.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

/// The address, or of IPv6 the 64 bits that one machine is given to choose addresses from.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_places_and_gets_them_back() {
        let peers = Peers::new(2);
        let admit = |from: &str| peers.admit(from.parse().unwrap());
        let held = [admit("10.0.0.1"), admit("::ffff:10.0.0.1")];
        assert!(held.iter().all(Option::is_some) && admit("10.0.0.1").is_none() && admit("10.0.0.2").is_some());
        drop(held);
        assert!(admit("10.0.0.1").is_some());
        let held = [admit("fd00::1"), admit("fd00::2")];
        assert!(held.iter().all(Option::is_some) && admit("fd00::3").is_none() && admit("fd00:0:0:1::1").is_some());
        drop(held);
        assert!(peers.open.lock().unwrap().is_empty(), "nothing is kept of who left");
    }
}
