"""Load trained models; predict, stream and export."""
