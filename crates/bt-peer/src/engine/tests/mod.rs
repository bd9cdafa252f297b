//! The engine under test: in swarms on a virtual clock.

mod swarm;
mod transfers;
