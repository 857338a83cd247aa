"""The migrator: waits for Postgres, then does one thing and says what it did."""
