//! What is written is read again, and what people write by hand is understood or refused with its place.
