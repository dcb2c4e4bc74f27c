"""What the tests of real gateways need: ports, processes, certificates, stubs, exact bytes on a socket."""
