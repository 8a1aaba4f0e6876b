//! Names of pods, and an API server that answers what a test says.
