"""A caller who comes by media stream: behaves towards a bridge as the carrier does. Shares nothing with the legs."""
