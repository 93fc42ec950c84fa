"""Dataset-wide runs: every image of a source explained, kept in a folder or bucket, resumed where
it stopped."""
