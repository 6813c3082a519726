"""Results: records of a run enter and leave as files that a killed run is resumed from."""
