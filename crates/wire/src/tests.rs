//! Golden tests through the public interface.
