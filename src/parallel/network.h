// The address at which peers can reach this machine.
#pragma once

#include <string>

namespace norma {

// The local address from which packets to `host` leave: 127.0.0.1 for a job on one machine, else the address in the
// network that leads there. A machine's own name would not do: many machines resolve it to 127.0.0.1. Throws
// CollectiveError when `host` is unknown.
std::string address_towards(const std::string& host, int port);

}  // namespace norma
