//! The engine under test: alone against scripts (`lone`), and in swarms on a virtual clock (`swarm`).

mod account;
mod admission;
mod behind;
mod blame;
mod disk_faults;
mod dont_have;
mod doubts;
mod downloading;
mod first_copy;
mod givers;
mod idle_dials;
mod lone;
mod magnet;
mod messages;
mod pex;
mod round_trips;
mod slots;
mod sparing;
mod super_seed;
mod swarm;
mod transfers;
mod uploading;
