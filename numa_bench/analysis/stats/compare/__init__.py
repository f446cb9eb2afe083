"""Studies before and after: the common shift, single cells, and how much days differ."""
