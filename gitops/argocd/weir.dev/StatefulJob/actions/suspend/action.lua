-- A last checkpoint is taken and the workers end; the state stays.
obj.spec.suspend = true
return obj
