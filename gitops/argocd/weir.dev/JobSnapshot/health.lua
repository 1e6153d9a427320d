-- Health of a JobSnapshot, from the conditions that kstatus reads too: docs/design/0014-operator.md has the table.
local health = {status = "Progressing", message = "Waiting for the operator"}
if obj.metadata.deletionTimestamp ~= nil then
  health.message = "Deleting"
  return health
end
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end
if obj.metadata.generation ~= nil and status.observedGeneration ~= nil
    and status.observedGeneration ~= obj.metadata.generation then
  return health
end
local holds = {}
for _, condition in ipairs(status.conditions) do
  holds[condition.type] = condition.status == "True"
  if condition.type == "Ready" then
    health.message = condition.message or ""
  end
end
if holds.Reconciling then
  return health
end
if holds.Stalled then
  health.status = "Degraded"
elseif holds.Ready then
  health.status = "Healthy"
end
return health
