//! Drains and farewells.
