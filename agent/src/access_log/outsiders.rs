//! Who bears the load balancer's name and isn't in its networks: counted by address, so that those can be named. Bounded.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// More addresses than a load balancer has.
const MOST: usize = 64;

/// Requests with the load balancer's User-Agent from outside of its networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outsiders {
    by_address: BTreeMap<IpAddr, u64>,
    /// From addresses beyond those that are counted one by one.
    more: u64,
}

impl Outsiders {
    /// One request.
    pub fn count(&mut self, from: IpAddr) {
        self.add(from, 1);
    }

    fn add(&mut self, from: IpAddr, times: u64) {
        if self.by_address.len() < MOST || self.by_address.contains_key(&from) {
            *self.by_address.entry(from).or_default() += times;
        } else {
            self.more += times;
        }
    }

    /// Those of another log too.
    pub fn merge(&mut self, other: &Self) {
        other.by_address.iter().for_each(|(from, times)| self.add(*from, *times));
        self.more += other.more;
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.by_address.values().sum::<u64>() + self.more
    }

    /// The addresses with their requests, the busiest first.
    pub fn addresses(&self) -> Vec<(IpAddr, u64)> {
        let mut all: Vec<(IpAddr, u64)> = self.by_address.iter().map(|(ip, n)| (*ip, *n)).collect();
        all.sort_by_key(|(ip, times)| (std::cmp::Reverse(*times), *ip));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_come_first_and_memory_is_bounded() {
        let mut all = Outsiders::default();
        (0..3).for_each(|_| all.count("52.1.2.3".parse().unwrap()));
        (0..1000_u32).for_each(|n| all.count(IpAddr::from(n.to_be_bytes())));
        assert_eq!(all.addresses()[0], ("52.1.2.3".parse().unwrap(), 3));
        assert_eq!((all.addresses().len(), all.total()), (MOST, 1003));
        let mut twice = all.clone();
        twice.merge(&all);
        assert_eq!(twice.total(), 2006);
    }
}
