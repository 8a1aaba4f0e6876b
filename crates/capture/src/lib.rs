//! Placeholder until the first real piece lands.
