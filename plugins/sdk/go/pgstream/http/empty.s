// This file is needed for functions without bodies, which are imported.
