"""`POST /v1/query`: a SELECT in the SQL of apps over stored relations, made anew from checked parts for the store."""
