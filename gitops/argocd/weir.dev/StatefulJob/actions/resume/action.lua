-- The job goes on from its last checkpoint.
obj.spec.suspend = false
return obj
