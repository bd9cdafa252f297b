//! Bencode: borrowed values with raw spans, strict and lenient, bounded, and a canonical encoder.
