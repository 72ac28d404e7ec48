"""How long a planned run would take."""
