"""SPIFFE ids, certificates and the authority that signs them. Pure but for the authority's folder."""
