//! No source can take all places of those who wait to be classified.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jfe_decide::limits::{IN_ALL, PER_SOURCE};
use jfe_decide::{Admission, Refuse};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn v6(network: u64, host: u64) -> IpAddr {
    Ipv6Addr::from_bits(u128::from(network) << 64 | u128::from(host)).into()
}

#[test]
fn one_source_gets_its_share_and_gets_it_back() {
    let mut admission = Admission::default();
    for _ in 0..PER_SOURCE {
        assert_eq!(admission.admit(V4), Ok(()));
    }
    assert_eq!(admission.admit(V4), Err(Refuse::SourceLimit));
    assert_eq!(admission.admit(Ipv4Addr::new(192, 0, 2, 2).into()), Ok(()));
    admission.release(V4);
    assert_eq!(admission.admit(V4), Ok(()));
    assert_eq!(admission.admit(V4), Err(Refuse::SourceLimit));
}

#[test]
fn an_ipv6_source_is_its_64_bit_network() {
    let mut admission = Admission::new(2, 100);
    assert_eq!(admission.admit(v6(0xfd00 << 48, 1)), Ok(()));
    assert_eq!(admission.admit(v6(0xfd00 << 48, 2)), Ok(()));
    assert_eq!(admission.admit(v6(0xfd00 << 48, 3)), Err(Refuse::SourceLimit));
    assert_eq!(admission.admit(v6(0xfd00 << 48 | 1, 3)), Ok(()));
}

#[test]
fn an_ipv4_mapped_source_is_the_ipv4_source() {
    let mut admission = Admission::new(1, 100);
    assert_eq!(admission.admit(V4), Ok(()));
    assert_eq!(admission.admit("::ffff:192.0.2.1".parse().expect("an address")), Err(Refuse::SourceLimit));
    assert_eq!(admission.admit(Ipv4Addr::new(192, 0, 2, 2).into()), Ok(()));
}

#[test]
fn all_sources_together_are_bounded() {
    let mut admission = Admission::default();
    for number in 0..IN_ALL {
        assert_eq!(admission.admit(Ipv4Addr::from_bits(number).into()), Ok(()));
    }
    assert_eq!(admission.admit(V4), Err(Refuse::Exhausted));
    admission.release(Ipv4Addr::from_bits(7).into());
    assert_eq!(admission.admit(V4), Ok(()));
    assert_eq!(admission.waiting(), IN_ALL);
}

#[test]
fn releasing_what_was_never_admitted_changes_nothing() {
    let mut admission = Admission::default();
    admission.release(V4);
    assert_eq!(admission.waiting(), 0);
}
