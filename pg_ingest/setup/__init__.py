"""What an administrator does so that a source can be replicated: steps by provider, and the SQL script."""
