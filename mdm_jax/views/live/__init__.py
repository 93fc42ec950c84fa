"""The page of `mdm view`: one photograph, explained by hand, with masks that are seen to learn."""
