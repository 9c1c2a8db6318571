"""The service's database: tables, sessions, migrations. SQLite by default, PostgreSQL at scale."""
