-- Another value is another wish; status.acknowledged.restart says the same when it is done.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["weir.dev/restart"] = os.date("!%Y-%m-%dT%XZ")
return obj
