-- What can be asked of a StatefulJob now.
local phase = obj.status ~= nil and obj.status.phase or nil
local suspended = obj.spec.suspend == true
local over = phase == "Failed" or phase == "Finished" or phase == "Deleting"
local actions = {}
actions["checkpoint-now"] = {disabled = suspended or over or phase == nil}
actions["restart"] = {disabled = suspended or phase == nil or phase == "Deleting"}
actions["suspend"] = {disabled = suspended or over}
actions["resume"] = {disabled = not suspended}
return actions
