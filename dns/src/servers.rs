//! Upstream resolvers: which to ask next.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::Millis;

/// For how long a failure is held against a server.
const GRUDGE: Millis = 30_000;

/// When each server last failed.
#[derive(Debug, Default)]
pub(crate) struct Health(HashMap<SocketAddr, Millis>);

impl Health {
    /// The servers in the order in which to ask them: as configured, but those that failed lately last, the latest failure
    /// at the very end.
    pub(crate) fn order(&self, now: Millis, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let failed = |server: &SocketAddr| {
            let at = self.0.get(server).copied();
            at.filter(|at| now.saturating_sub(*at) < GRUDGE)
        };
        let mut order = servers.to_vec();
        order.sort_by_key(failed); // stable, and no failure is less than any
        order
    }

    /// It did not answer, or with nothing of use.
    pub(crate) fn failed(&mut self, now: Millis, server: SocketAddr) {
        self.0.retain(|_, at| now.saturating_sub(*at) < GRUDGE);
        self.0.insert(server, now);
    }

    /// It answered.
    pub(crate) fn answered(&mut self, server: SocketAddr) {
        if !self.0.is_empty() {
            self.0.remove(&server);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_failed_are_asked_last_for_a_while() {
        let server = |n: u8| SocketAddr::from(([192, 0, 2, n], 53));
        let all = [server(1), server(2), server(3)];
        let mut health = Health::default();
        assert_eq!(health.order(0, &all), all);
        health.failed(0, server(1));
        health.failed(5, server(2));
        assert_eq!(health.order(10, &all), [server(3), server(1), server(2)]);
        health.answered(server(2));
        assert_eq!(health.order(10, &all), [server(2), server(3), server(1)]);
        assert_eq!(health.order(GRUDGE, &all), all);
    }
}
