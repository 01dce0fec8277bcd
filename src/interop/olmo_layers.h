// HybridNorm's switches by layer, a Python dict in a string: "_{0:{'attn_norm':True,'ffn_residual':False}}_".
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace norma {

using OlmoLayerFlags = std::map<std::int64_t, std::map<std::string, bool>>;

// The keys are whole numbers, and each value holds quoted words with True or False. Nothing is evaluated. "" means no
// layers. Throws DataError naming `where` and the text before the first character that does not fit.
OlmoLayerFlags parse_layer_flags(const std::string& text, const std::string& where);

}  // namespace norma
