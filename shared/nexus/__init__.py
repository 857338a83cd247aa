"""Nexus: the shared package of api, worker and migrator. ARCHITECTURE.md says where a line belongs."""

#: The version of the distribution; a test holds it equal to pyproject.toml.
__version__ = "0.1.0"
