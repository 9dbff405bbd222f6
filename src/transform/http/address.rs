//! Rules for addresses: those that lie on the public internet may be dialled without being named.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::model::Network;

/// Returns the reason why `address` may not be dialled by a handler that was granted the addresses
/// of `private`. None if it may.
pub(super) fn refused(address: IpAddr, private: &[Network]) -> Option<&'static str> {
    let meant = meant(address);
    let why = match meant {
        IpAddr::V4(address) => not_public_v4(address)?,
        IpAddr::V6(address) => not_public_v6(address)?,
    };
    let reaches_one_machine =
        !meant.is_unspecified() && !meant.is_multicast() && meant != IpAddr::V4(Ipv4Addr::BROADCAST);
    let named = private.iter().any(|network| network.contains(meant) || network.contains(address));
    (!named || !reaches_one_machine).then_some(why)
}

/// The address that a packet reaches: an IPv4 address also where it is written inside an IPv6 one.
fn meant(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.segments() {
            [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                IpAddr::V4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
            }
            _ => address,
        },
        IpAddr::V4(_) => address,
    }
}

/// By the special-purpose registry of IANA, and where a cloud answers on an address that looks
/// public.
fn not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("this machine"),
        [127, ..] => Some("this machine"),
        [10, ..] | [192, 168, ..] => Some("a private network"),
        [172, second, ..] if second & 0xf0 == 16 => Some("a private network"),
        [100, second, ..] if second & 0xc0 == 64 => Some("a carrier's private network"),
        [169, 254, ..] => Some("the local link, where clouds keep their credentials"),
        [168, 63, 129, 16] => Some("a cloud's own service"),
        [192, 0, 0, _] => Some("an address for protocols"),
        [192, 88, 99, _] => Some("a relay to IPv6"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("an address for documentation"),
        [198, 18 | 19, ..] => Some("a network for benchmarks"),
        [224..=239, ..] => Some("a group of machines"),
        [240..=255, ..] => Some("a reserved address"),
        _ => None,
    }
}

/// All that is public is below 2000::/3, with some holes in it.
fn not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, _] => Some("this machine"),
        [0, 0, 0, 0, 0, 0, ..] => Some("an IPv4 address in an obsolete form"),
        [first, ..] if first & 0xff00 == 0xff00 => Some("a group of machines"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Some("the local link"),
        [first, ..] if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 => Some("a private network"),
        [0x64, 0xff9b, ..] => Some("a translator's private network"),
        [0x2001, 0xdb8, ..] => Some("an address for documentation"),
        [0x3fff, second, ..] if second & 0xf000 == 0 => Some("an address for documentation"),
        [0x2001, second, ..] if second < 0x200 => Some("a tunnel or an address for protocols"),
        [0x2002, ..] => Some("a tunnel"),
        [first, ..] if first & 0xe000 == 0x2000 => None,
        _ => Some("a reserved address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(address: &str, private: &[&str]) -> bool {
        let private: Vec<Network> = private.iter().map(|network| network.parse().unwrap()).collect();
        refused(address.parse().unwrap(), &private).is_none()
    }

    #[test]
    fn only_the_public_internet_is_reached_unnamed() {
        for public in [
            "1.1.1.1",
            "93.184.215.14",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2001:4860:4860::8888",
        ] {
            assert!(named(public, &[]), "{public}");
        }
        for not in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(!named(not, &[]), "{not}");
        }
    }

    #[test]
    fn what_is_named_is_reached_in_each_of_its_forms_and_nothing_else_is() {
        for form in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203"] {
            assert!(named(form, &["10.0.0.0/8"]), "{form}");
            assert!(!named(form, &["192.168.0.0/16"]), "{form}");
        }
        assert!(named("127.0.0.1", &["127.0.0.1"]) && !named("127.0.0.2", &["127.0.0.1"]));
        assert!(named("169.254.169.254", &["169.254.169.254"]), "by its name alone");
        assert!(
            !named("224.0.0.1", &["224.0.0.0/4"])
                && !named("0.0.0.0", &["0.0.0.0/8"])
                && !named("ff02::1", &["ff00::/8"])
        );
        assert!(!named("255.255.255.255", &["240.0.0.0/4"]));
    }
}
